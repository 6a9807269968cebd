"""Samples: for a search parameter, a resource that matches a query and one that does not.

They are made from R4's own definitions: a value of the element's type at the place that
the parameter's expression leads to.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.path import Computed, Field, Path, resolve
from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType

UCUM = "http://unitsofmeasure.org"


class Sample(NamedTuple):
    """`search` finds `matching` and not `other`; both lack their ids."""

    parameter: str
    search: str
    matching: dict[str, Any]
    other: dict[str, Any]


class _Pair(NamedTuple):
    """Two values of an element, and what finds the first alone."""

    text: str
    first: Any
    second: Any


_TOKENS: Mapping[str, _Pair] = {
    **dict.fromkeys(("code", "string", "id"), _Pair("alpha", "alpha", "beta")),
    **dict.fromkeys(("uri", "url", "canonical"), _Pair("urn:a", "urn:a", "urn:b")),
    "boolean": _Pair("true", True, False),
    "Coding": _Pair("urn:s|a", {"system": "urn:s", "code": "a"}, {"system": "urn:t", "code": "a"}),
    "CodeableConcept": _Pair(
        "urn:s|a",
        {"coding": [{"system": "urn:s", "code": "a"}, {"code": "z"}]},
        {"coding": [{"system": "urn:s", "code": "b"}], "text": "a"},
    ),
    "Identifier": _Pair(
        "urn:s|1", {"system": "urn:s", "value": "1"}, {"system": "urn:s", "value": "2"}
    ),
    "ContactPoint": _Pair("1", {"value": "1"}, {"value": "2"}),
}
_DATES: Mapping[str, _Pair] = {
    "date": _Pair("2024-03", "2024-03-05", "2024-04-01"),
    "dateTime": _Pair("ge2024-03-05", "2024-03-05T10:00:00Z", "2023"),
    "instant": _Pair("lt2024", "2023-03-05T10:00:00Z", "2024-03-05T10:00:00Z"),
    "Period": _Pair(
        "sa2024-03", {"start": "2024-04-02"}, {"start": "2024-02-02", "end": "2024-05-01"}
    ),
    "Timing": _Pair("eb2024", {"event": ["2023-01-01"]}, {"event": ["2024-01-01"]}),
}
_STRINGS: Mapping[str, _Pair] = {
    **dict.fromkeys(("string", "markdown", "code"), _Pair("Ива", "ИВАНОВ", "Петров")),
    "HumanName": _Pair("анна", {"given": ["Анна"]}, {"family": "Анина", "given": ["Ина"]}),
    "Address": _Pair("мос", {"city": "Москва"}, {"city": "Омск", "line": ["пр. Мос"]}),
}
_QUANTITY = _Pair(
    f"gt1|{UCUM}|g",
    {"value": Decimal("0.5"), "system": UCUM, "code": "kg"},
    {"value": Decimal("0.5"), "system": UCUM, "code": "g"},
)
_PAIRS: Mapping[SearchType, Mapping[str, _Pair]] = {
    SearchType.TOKEN: _TOKENS,
    SearchType.DATE: _DATES,
    SearchType.STRING: _STRINGS,
    SearchType.NUMBER: {
        **dict.fromkeys(("integer", "positiveInt", "unsignedInt", "decimal"), _Pair("2", 2, 3)),
        "Range": _Pair("gt5", {"high": {"value": 6}}, {"high": {"value": 5}}),
    },
    SearchType.QUANTITY: {
        **dict.fromkeys(("Quantity", "Age", "Duration"), _QUANTITY),
        "Range": _Pair(
            f"lt1|{UCUM}|g",
            {"low": {"value": 900, "system": UCUM, "code": "mg"}},
            {"low": {"value": 1, "system": UCUM, "code": "g"}},
        ),
    },
    SearchType.URI: dict.fromkeys(
        ("uri", "url", "canonical"), _Pair("http://a/1", "http://a/1", "http://a/12")
    ),
}
_KEYS_BY_KIND = {"phone": "phone", "email": "email"}


class Sampler:
    """Makes the samples of parameters."""

    def __init__(self, parameters: SearchParameters, types: ElementTypes) -> None:
        self._parameters = parameters
        self._types = types

    def samples(self, parameter: SearchParameter) -> Iterator[Sample]:
        """One for each type of element that the parameter can be about."""
        root = parameter.resource_type
        done: set[str] = set()
        for path in resolve(parse(parameter.expression), self._types, root, root):
            if path.type_name in done:
                continue
            sample = (
                self._composite(parameter, path)
                if parameter.type is SearchType.COMPOSITE
                else self._plain(parameter, path)
            )
            if sample is not None:
                done.add(path.type_name)
                yield sample

    def _plain(self, parameter: SearchParameter, path: Path) -> Sample | None:
        root = parameter.resource_type
        if any(isinstance(step, Computed) for step in path.steps):
            # The one such parameter of these types: Patient.deceased.
            pair = _Pair("true", True, False)
            path = Path((Field("deceasedBoolean", "boolean", False),), "boolean")
        else:
            found = _pair(parameter, path.type_name)
            if found is None:
                return None
            pair = found
        return Sample(
            parameter.code,
            f"{parameter.code}={pair.text}",
            _merged({"resourceType": root}, _placed(path, pair.first)),
            _merged({"resourceType": root}, _placed(path, pair.second)),
        )

    def _composite(self, parameter: SearchParameter, path: Path) -> Sample | None:
        root = parameter.resource_type
        texts: list[str] = []
        both: list[dict[str, Any]] = [{"resourceType": root}, {"resourceType": root}]
        for number, component in enumerate(parameter.components):
            part = self._parameters.get(root, component.code)
            if part is None:
                return None
            inner = next(
                (p, pair)
                for p in resolve(parse(component.expression), self._types, path.type_name, root)
                if (pair := _pair(part, p.type_name)) is not None
            )
            steps, pair = inner
            texts.append(pair.text)
            is_last = number == len(parameter.components) - 1
            prefix = () if component.is_of_resource else path.steps
            place = Path((*prefix, *steps.steps), steps.type_name)
            for target, value in zip(
                both, (pair.first, pair.second if is_last else pair.first), strict=True
            ):
                _merged(target, _placed(place, value))
        return Sample(parameter.code, f"{parameter.code}={'$'.join(texts)}", *both)


def _pair(parameter: SearchParameter, type_name: str) -> _Pair | None:
    if parameter.type is SearchType.REFERENCE:
        if type_name in ("canonical", "uri"):
            return _Pair("http://a/x", "http://a/x", "http://a/y")
        if type_name != "Reference":
            return None
        target = (parameter.target_types or ("Patient",))[0]
        other = "Group" if target != "Group" else "Patient"
        return _Pair(f"{target}/1", {"reference": f"{target}/1"}, {"reference": f"{other}/1"})
    pair = _PAIRS[parameter.type].get(type_name)
    kind = _KEYS_BY_KIND.get(parameter.code)
    if pair is not None and kind is not None and type_name == "ContactPoint":
        # Only contacts of that kind are meant: another kind with the same value is not.
        return _Pair("1", {"system": kind, "value": "1"}, {"system": "fax", "value": "1"})
    return pair


def _placed(path: Path, value: Any) -> Any:
    for step in reversed(path.steps):
        if isinstance(step, Field):
            value = {step.name: [value] if step.is_list else value}
    return value


def _merged(target: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """`target` with all that is in `other`; items of lists are the same item."""
    for name, value in other.items():
        have = target.get(name)
        if isinstance(have, dict) and isinstance(value, dict):
            _merged(have, value)
        elif isinstance(have, list) and have and isinstance(have[0], dict):
            _merged(have[0], value[0])
        else:
            target[name] = value
    return target
