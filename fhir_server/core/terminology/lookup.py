"""$lookup and $subsumes: what a code means, and how two codes stand to each other.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html
https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from collections.abc import Iterator, Sequence
from typing import Any

from fhir_server.core.operation_output import Parameter, parameters, parts, value
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.code_system import AnyCodeSystem, Concept
from fhir_server.core.terminology.wording import designations, display
from fhir_server.errors import NotFound


def lookup(
    known: AnyCodeSystem, code: str, language: str | None, wanted: Sequence[str]
) -> Resource:
    """What is known of a code; `wanted` are the properties to tell, all if there are none.

    Raises:
        NotFound: the system has no such code.
    """
    concept = _concept(known, code)
    is_all = not wanted or "*" in wanted

    def is_wanted(name: str) -> bool:
        return is_all or name in wanted

    shown = designations(concept) if is_wanted("designation") else []
    more = [
        *_hierarchy(known, concept),
        *_details(concept),
    ]
    return parameters(
        value("name", "String", known.name),
        value("version", "String", known.version),
        value("display", "String", display(concept, language) or concept.code),
        *(_designation(each) for each in shown),
        *(parts("property", each) for name, each in more if is_wanted(name)),
    )


def subsumes(known: AnyCodeSystem, left: str, right: str) -> str:
    """equivalent, subsumes, subsumed-by or not-subsumed.

    Raises:
        NotFound: the system has not both codes.
    """
    left, right = _concept(known, left).code, _concept(known, right).code
    if left == right:
        return "equivalent"
    if left in known.above(right):
        return "subsumes"
    return "subsumed-by" if right in known.above(left) else "not-subsumed"


def _concept(known: AnyCodeSystem, code: str) -> Concept:
    concept = known.find(code)
    if concept is None:
        raise NotFound(f"{known.url} has no code {code}, as far as it is known here")
    return concept


def _hierarchy(
    known: AnyCodeSystem, concept: Concept
) -> Iterator[tuple[str, list[Parameter | None]]]:
    children = [c for c in known.below(concept.code) if concept.code in known.parents(c)]
    for name, codes in (("parent", known.parents(concept.code)), ("child", sorted(children))):
        for each in codes:
            yield name, [value("code", "Code", name), value("value", "Code", each)]


def _details(concept: Concept) -> Iterator[tuple[str, list[Parameter | None]]]:
    if concept.details.get("definition"):
        text = concept.details["definition"]
        yield "definition", [value("code", "Code", "definition"), value("value", "String", text)]
    yield (
        "inactive",
        [value("code", "Code", "inactive"), value("value", "Boolean", concept.is_inactive)],
    )
    for each in concept.details.get("property", ()):
        name = each.get("code")
        if name in ("parent", "child", "subsumedBy", "inactive"):
            continue
        for key, given in each.items():
            if key.startswith("value"):
                yield name, [value("code", "Code", name), {"name": "value", key: given}]


def _designation(designation: Any) -> Parameter:
    return parts(
        "designation",
        [
            value("language", "Code", designation.get("language")),
            value("use", "Coding", designation.get("use")),
            value("value", "String", designation.get("value")),
        ],
    )
