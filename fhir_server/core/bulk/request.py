"""What a bulk export is asked for, read from its parameters.

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters
"""

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from typing import Literal

import msgspec

from fhir_server.core import query_string, reference
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidRequest, Issue

ExportLevel = Literal["system", "patient", "group"]

_FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
# Commas stand between filters and within their values; a filter begins with its type.
_BETWEEN_FILTERS = re.compile(r",(?=[A-Z][A-Za-z]*\?)")
_MOST_PATIENTS = 10_000
_MOST_FILTERS = 100


class TypeFilter(msgspec.Struct, frozen=True):
    """Resources of a type go along that this search finds."""

    type: str
    params: Params


class ExportRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """`types` empty is all. Of a type with filters goes along what any of them finds.

    `elements` are a type and an element's name each, "" for every type. `patients` are ids;
    None is everyone. `ignored` says what was asked for and is not done.
    """

    types: tuple[str, ...] = ()
    since: datetime | None = None
    filters: tuple[TypeFilter, ...] = ()
    elements: tuple[tuple[str, str], ...] = ()
    patients: tuple[str, ...] | None = None
    ignored: tuple[str, ...] = ()


class _Reader:
    """One request's parameters; `is_lenient`: what is not understood is passed over."""

    def __init__(self, types: Collection[str], *, is_lenient: bool) -> None:
        self._types = types
        self._is_lenient = is_lenient
        self.ignored: list[str] = []

    def refuse(self, name: str, why: str, code: str = "not-supported") -> None:
        """Raises `InvalidRequest`, or notes that it is passed over."""
        if not self._is_lenient:
            raise InvalidRequest(issues=(Issue(code, f"{name}: {why}", name),))
        self.ignored.append(f"{name} was ignored: {why}")

    def types(self, text: str) -> Iterator[str]:
        for name in _split(text):
            if name in self._types:
                yield name
            else:
                self.refuse("_type", "it names a type that is not exported here")

    def filters(self, text: str) -> Iterator[TypeFilter]:
        for part in _BETWEEN_FILTERS.split(text):
            name, mark, query = part.strip().partition("?")
            if not mark or name not in self._types:
                self.refuse("_typeFilter", "a type that is exported, ? and a search of it")
            elif params := query_string.parse(query):
                yield TypeFilter(name, params)

    def elements(self, text: str) -> Iterator[tuple[str, str]]:
        for name in _split(text):
            before, dot, after = name.partition(".")
            if dot and before not in self._types:
                self.refuse("_elements", "it names a type that is not exported here")
            else:
                yield (before, after) if dot else ("", before)

    def patients(self, texts: Sequence[str]) -> Iterator[str]:
        for text in texts:
            found = reference.parse(text.strip())
            if found is None or not found.is_local or found.resource_type != "Patient":
                raise _invalid("patient", "a reference to a Patient of this server")
            yield found.resource_id


def parse(
    params: Params,
    types: Collection[str],
    *,
    is_lenient: bool,
    takes_patients: bool,
) -> ExportRequest:
    """What `params` ask for; `types` are those that such an export may hold.

    Raises:
        InvalidRequest: a parameter means nothing, or is not supported and not to be ignored.
    """
    reader = _Reader(types, is_lenient=is_lenient)
    named: dict[str, None] = {}
    filters: list[TypeFilter] = []
    elements: list[tuple[str, str]] = []
    patients: list[str] = []
    since: datetime | None = None
    for name, text in params:
        match name:
            case "_outputFormat":
                # In a query string the + of application/fhir+ndjson has become a space.
                if text.strip().replace(" ", "+") not in _FORMATS:
                    raise _invalid(name, "files are application/fhir+ndjson")
            case "_since":
                since = _parse_instant(name, text)
            case "_type":
                named.update(dict.fromkeys(reader.types(text)))
            case "_typeFilter":
                filters += reader.filters(text)
            case "_elements":
                elements += reader.elements(text)
            case "patient" if takes_patients:
                patients.append(text)
            case "patient":
                reader.refuse(name, "it is given by POST, for patients and groups")
            case "includeAssociatedData":
                reader.refuse(name, "what belongs to a resource is exported by its own type")
            case _:
                reader.refuse(name, "no such parameter of an export is known here")
    asked = [text for name, text in params if name == "_type"]
    if asked and not named:
        raise _invalid("_type", "none of the types is exported here")
    if named:
        for each in filters:
            if each.type not in named:
                reader.refuse("_typeFilter", "its type is not among those of _type")
        filters = [each for each in filters if each.type in named]
    if len(filters) > _MOST_FILTERS or len(patients) > _MOST_PATIENTS:
        raise _invalid("_typeFilter" if filters else "patient", "too many of them")
    whom = tuple(dict.fromkeys(reader.patients(patients))) if patients else None
    return ExportRequest(
        tuple(named),
        since,
        tuple(filters),
        tuple(dict.fromkeys(elements)),
        whom,
        tuple(dict.fromkeys(reader.ignored)),
    )


def _split(text: str) -> Iterator[str]:
    return (name for part in text.split(",") if (name := part.strip()))


def _parse_instant(name: str, text: str) -> datetime:
    # A plus sign that was not escaped has become a space.
    try:
        when = datetime.fromisoformat(text.strip().replace(" ", "+"))
        if when.tzinfo is not None and "T" in text:
            # Down to what stored times have: what is of that millisecond goes along again.
            utc = when.astimezone(UTC)
            return utc.replace(microsecond=utc.microsecond // 1_000 * 1_000)
    except (ValueError, OverflowError):
        pass
    raise _invalid(name, "an instant with a time zone: 2024-03-01T12:00:00Z")


def _invalid(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(issues=(Issue("value", f"{name}: {why}", name),))
