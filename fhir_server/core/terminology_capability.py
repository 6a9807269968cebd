"""The TerminologyCapabilities: which terminology the server has, and what it does with it.

https://hl7.org/fhir/R4/terminologycapabilities.html
"""

from collections.abc import Iterable
from datetime import datetime

from fhir_server.core.resource_json import Resource
from fhir_server.core.version import format_instant

_EXPANSION = (
    ("activeOnly", "Leaves out what is no longer to be used"),
    ("check-system-version", "Refuses a set of another version of a code system"),
    ("count", "How many codes to tell"),
    ("designation", "Tells designations of these languages and uses"),
    ("displayLanguage", "Calls the codes in this language where it can"),
    ("exclude-system", "Leaves out the codes of a code system"),
    ("filter", "Words that are in the code or its names"),
    ("force-system-version", "The version of a code system in any case"),
    ("includeDefinition", "Tells how the set is made"),
    ("includeDesignations", "Tells all designations"),
    ("offset", "How many codes to pass over; goes with count"),
    ("system-version", "The version of a code system where the set says none"),
    ("valueSetVersion", "The version of the set"),
)


def terminology_capabilities(
    code_systems: Iterable[tuple[str, str | None]], now: datetime, version: str
) -> Resource:
    """The statement; `code_systems` are URLs and versions of those known from the start.

    What is stored on the server comes on top: `/CodeSystem` lists it.
    """
    listed = [
        {"uri": url, **({"version": [{"code": code}]} if code else {})}
        for url, code in code_systems
    ]
    return {
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "date": format_instant(now),
        "kind": "instance",
        "software": {"name": "fhir-server", "version": version},
        "implementation": {"description": "FHIR server for personal medical assistants"},
        "lockedDate": False,
        "codeSystem": listed,
        "expansion": {
            "hierarchical": False,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name, "documentation": text} for name, text in _EXPANSION],
            "textFilter": "All words, in any order and case, as parts of the code or its names",
        },
        "codeSearch": "all",
        "validateCode": {"translations": False},
        "translation": {"needsMap": False},
        "closure": {"translation": False},
    }
