"""What `extract_r4.py` keeps of R4's operations: all but narrative and who published them."""

from r4_package import Json, Package

_LEFT_OUT = frozenset({"text", "meta", "extension", "contact", "publisher"})
_OWN = "http://hl7.org/fhir/OperationDefinition/"


def operations(package: Package) -> dict[str, Json]:
    """By id: every operation that R4 defines, the one that only shows how to define one not."""
    return {
        definition["id"]: {k: v for k, v in definition.items() if k not in _LEFT_OUT}
        for url, definition in sorted(package.of_type("OperationDefinition").items())
        if url.startswith(_OWN)
    }
