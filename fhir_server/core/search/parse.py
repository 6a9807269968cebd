"""Search parsing: names and texts in, a `Query` with nothing left to decide out.

https://hl7.org/fhir/R4/search.html. A modifier that is not supported is refused whatever
the handling, as R4 demands; an unknown parameter is refused or named in `ignored`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from fhir_server.core import date_range
from fhir_server.core.search import plain
from fhir_server.core.search.criteria import CriteriaReader, UnknownParameter, shown
from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType
from fhir_server.core.search.query import AllOf, Criterion, Include, Query, SortKey, Total
from fhir_server.core.search.values import ValueReader
from fhir_server.core.terminology.terminology import NOTHING_KNOWN, Terminology
from fhir_server.errors import InvalidSearch, Issue

Params = Sequence[tuple[str, str]]

MAX_PARAMETERS = 500
MAX_VALUES = 5_000
MAX_TEXT_LENGTH = 500_000
MAX_SORT_KEYS = 10
MAX_INCLUDES = 50
MAX_ELEMENTS = 200

SUMMARIES = frozenset({"true", "text", "data", "count", "false"})

_FEW_PARAMETERS = 32
# About the page, and said by themselves.
_OF_THE_PAGE = frozenset(
    {"_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude"}
)
# So short a search cannot have too many values.
_SHORT = MAX_VALUES // 2

_NOT_SUPPORTED = frozenset({"_query", "_type", "_containedType"})
_OF_THE_RESPONSE = frozenset({"_format", "_pretty"})
_ELEMENT = re.compile(r"[A-Za-z][A-Za-z0-9.]{0,127}")


class ParsedSearch(NamedTuple):
    """A search as it was understood.

    `applied` are the parameters that the self link lists; `ignored` has a warning for
    each that is not among them. `summary` is a mode of `_summary` other than "false";
    with "count" the query's `count` is 0.
    """

    query: Query
    includes: tuple[Include, ...]
    summary: str | None
    elements: tuple[str, ...]
    applied: tuple[tuple[str, str], ...]
    ignored: tuple[Issue, ...]


def parse(
    resource_type: str,
    params: Params,
    parameters: SearchParameters,
    *,
    base_url: str,
    time_zone: str,
    now: datetime,
    max_page_size: int,
    default_page_size: int,
    strict: bool,
    terminology: Terminology = NOTHING_KNOWN,
) -> ParsedSearch:
    """Read a search of `resource_type`.

    Raises:
        NotLoaded: a value set or code system has to be looked for, and put into `terminology`.
        InvalidSearch: a parameter cannot be applied as it was meant; its name is in the
            message. With `strict`, also if it is unknown.
    """
    sizes = (max_page_size, default_page_size)
    if _is_lasting(params):
        return _parse_lasting(
            resource_type, tuple(params), parameters, base_url, time_zone, sizes, strict
        )
    return _parse(
        resource_type, params, parameters, base_url, time_zone, now, sizes, strict, terminology
    )


def _is_lasting(params: Params) -> bool:
    """Whether a search is short, and means the same whenever it is asked."""
    if len(params) > _FEW_PARAMETERS:
        return False
    for name, text in params:
        if name in _OF_THE_PAGE:
            if len(text) > plain.LONGEST:
                return False
        elif not plain.is_plain(name, text):
            return False
    return True


@lru_cache(maxsize=2_048)
def _parse_lasting(
    resource_type: str,
    params: Params,
    parameters: SearchParameters,
    base_url: str,
    time_zone: str,
    sizes: tuple[int, int],
    strict: bool,
) -> ParsedSearch:
    return _parse(
        resource_type,
        params,
        parameters,
        base_url,
        time_zone,
        plain.ANY_TIME,
        sizes,
        strict,
        NOTHING_KNOWN,
    )


def _parse(
    resource_type: str,
    params: Params,
    parameters: SearchParameters,
    base_url: str,
    time_zone: str,
    now: datetime,
    sizes: tuple[int, int],
    strict: bool,
    terminology: Terminology,
) -> ParsedSearch:
    max_page_size, default_page_size = sizes
    reader = _criteria_reader(parameters, base_url, time_zone, now, terminology)

    def read(name: str, text: str) -> Criterion:
        if is_short and plain.is_plain(name, text):
            return plain.read(parameters, base_url, time_zone, resource_type, name, text)
        return reader.read(resource_type, name, text)

    # The criteria of a long search are counted by the reader.
    is_short = len(params) <= _FEW_PARAMETERS
    page_size = min(default_page_size, max_page_size)
    reading = _Reading(resource_type, parameters, read, page_size)
    applied: list[tuple[str, str]] = []
    ignored: list[Issue] = []
    for name, text in _bounded(params):
        try:
            reading.read(name, text, max_page_size)
        except UnknownParameter as error:
            if strict:
                raise
            ignored.append(Issue("not-supported", f"{error} and was ignored", severity="warning"))
        else:
            applied.append((name, text))
    return reading.result(tuple(applied), tuple(ignored))


def parse_criteria(
    resource_type: str,
    params: Params,
    parameters: SearchParameters,
    *,
    base_url: str,
    time_zone: str,
    now: datetime,
    terminology: Terminology = NOTHING_KNOWN,
) -> tuple[Criterion, ...]:
    """Read the criteria of a conditional interaction, all of which must count.

    Raises:
        InvalidSearch: one is unknown, empty or no criterion, or there are none: a
            condition that lost a part would match what it must not.
    """
    reader = _criteria_reader(parameters, base_url, time_zone, now, terminology)
    criteria: list[Criterion] = []
    for name, text in _bounded(params):
        base = name.partition(":")[0]
        if base in _RESULT_PARAMETERS or base in _NOT_SUPPORTED or base in _OF_THE_RESPONSE:
            raise InvalidSearch(f"{shown(name)} cannot be a condition")
        criteria.append(reader.read(resource_type, name, text))
    if not criteria:
        raise InvalidSearch("a condition needs at least one criterion")
    return tuple(criteria)


def _criteria_reader(
    parameters: SearchParameters,
    base_url: str,
    time_zone: str,
    now: datetime,
    terminology: Terminology,
) -> CriteriaReader:
    zone = date_range.load_zone(time_zone)
    values = ValueReader(base_url, zone, now, parameters.resource_types)
    return CriteriaReader(parameters, values, terminology)


def _bounded(params: Params) -> Params:
    """`params`, if they are of a size and of characters that can be meant."""
    if len(params) > MAX_PARAMETERS:
        raise InvalidSearch(f"more than {MAX_PARAMETERS} search parameters")
    whole = "".join([part for pair in params for part in pair])
    if len(whole) <= _SHORT and whole.isascii() and "\0" not in whole:
        return params
    values = 0
    for name, text in params:
        values += text.count(",") + 1
        if values > MAX_VALUES:
            raise InvalidSearch(f"more than {MAX_VALUES} search values")
        if len(name) + len(text) > MAX_TEXT_LENGTH:
            raise InvalidSearch(f"{shown(name)} is too long")
        if not (_is_text(name) and _is_text(text)):
            raise InvalidSearch(f"{shown(name)} has a character that no text may have")
    return params


def _is_text(text: str) -> bool:
    return "\0" not in text and (
        text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
    )


class _Reading:
    """One search while its parameters are read."""

    def __init__(
        self,
        resource_type: str,
        parameters: SearchParameters,
        read: Callable[[str, str], Criterion],
        count: int,
    ) -> None:
        self._resource_type = resource_type
        self._parameters = parameters
        self._read_criterion = read
        self._criteria: list[Criterion] = []
        self._sort: dict[str, SortKey] = {}
        self._includes: dict[Include, None] = {}
        self._elements: dict[str, None] = {}
        self._count = count
        self._once: dict[str, str] = {}
        self._total = Total.NONE
        self._summary: str | None = None

    def read(self, name: str, text: str, max_page_size: int) -> None:
        base, _, modifier = name.partition(":")
        if base in _NOT_SUPPORTED:
            raise InvalidSearch(f"{shown(base)} is not supported")
        if name in _OF_THE_RESPONSE:
            return
        if name == "_count":
            self._read_count(text, max_page_size)
        elif base in ("_include", "_revinclude"):
            self._read_include(name, base == "_revinclude", modifier, text)
        elif name in _ONE_VALUE:
            _ONE_VALUE[name](self, text)
        else:
            criterion = self._read_criterion(name, text)
            # Each for itself may be what an index is asked for.
            self._criteria += criterion.criteria if isinstance(criterion, AllOf) else (criterion,)

    def result(
        self, applied: tuple[tuple[str, str], ...], ignored: tuple[Issue, ...]
    ) -> ParsedSearch:
        if self._summary == "text" and self._includes:
            raise InvalidSearch("_summary=text cannot be combined with _include or _revinclude")
        is_count = self._summary == "count" or self._count == 0
        query = Query(
            self._resource_type,
            tuple(self._criteria),
            tuple(self._sort.values()),
            0 if is_count else self._count,
            total=Total.ACCURATE if is_count else self._total,
        )
        return ParsedSearch(
            query,
            () if is_count else tuple(self._includes),
            "count" if is_count else self._summary,
            tuple(self._elements),
            applied,
            ignored,
        )

    def _read_once(self, name: str, text: str) -> str:
        if self._once.setdefault(name, text) != text:
            raise InvalidSearch(f"{name} is given twice")
        return text

    def _read_count(self, text: str, max_page_size: int) -> None:
        self._read_once("_count", text)
        if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) is None:
            raise InvalidSearch("_count: expected a whole number")
        self._count = min(int(text), max_page_size)

    def _read_total(self, text: str) -> None:
        try:
            self._total = Total(self._read_once("_total", text))
        except ValueError:
            raise InvalidSearch("_total: expected none, estimate or accurate") from None

    def _read_summary(self, text: str) -> None:
        if self._read_once("_summary", text) not in SUMMARIES:
            raise InvalidSearch("_summary: expected true, text, data, count or false")
        self._summary = None if text == "false" else text

    def _read_elements(self, text: str) -> None:
        for name in filter(None, (part.strip() for part in text.split(","))):
            if _ELEMENT.fullmatch(name) is None:
                raise InvalidSearch("_elements: expected names of elements")
            self._elements[name] = None
        if len(self._elements) > MAX_ELEMENTS:
            raise InvalidSearch(f"_elements: more than {MAX_ELEMENTS} elements")

    def _read_contained(self, text: str) -> None:
        if text != "false":
            raise InvalidSearch("_contained: only false is supported")

    def _read_sort(self, text: str) -> None:
        keys = [part.strip() for part in text.split(",")]
        if len(keys) + len(self._sort) > MAX_SORT_KEYS:
            raise InvalidSearch(f"_sort: more than {MAX_SORT_KEYS} keys")
        found: list[SortKey] = []
        for key in keys:
            code = key.removeprefix("-")
            parameter = self._parameters.get(self._resource_type, code)
            if parameter is None:
                raise UnknownParameter(f"_sort: {shown(code)} is unknown")
            if parameter.type in (SearchType.COMPOSITE, SearchType.SPECIAL):
                raise InvalidSearch(f"_sort: {code} has no order")
            found.append(SortKey(parameter, key.startswith("-")))
        for sort_key in found:
            self._sort.setdefault(sort_key.parameter.code, sort_key)

    def _read_include(self, name: str, is_reverse: bool, modifier: str, text: str) -> None:
        if modifier not in ("", "iterate", "recurse"):
            raise InvalidSearch(f"{shown(name)}: the modifier is not supported")
        parts = text.split(":")
        iterate = modifier != ""
        if text == "*":
            if is_reverse:
                raise InvalidSearch("_revinclude: * needs a resource type, as in Observation:*")
            include = Include(self._resource_type, None, iterate=iterate)
        elif len(parts) in (2, 3) and parts[0] in self._parameters.resource_types:
            parameter = self._reference(name, parts[0], parts[1])
            target = parts[2] if len(parts) == 3 else None
            if target is not None and target not in self._parameters.resource_types:
                raise InvalidSearch(f"{name}: the target is no resource type")
            if not (iterate or is_reverse) and parts[0] != self._resource_type:
                raise InvalidSearch(f"{name}: only {self._resource_type} is searched for")
            include = Include(parts[0], parameter, target, is_reverse, iterate)
        else:
            raise InvalidSearch(f"{name}: expected Type:parameter or Type:parameter:Target")
        self._includes[include] = None
        if len(self._includes) > MAX_INCLUDES:
            raise InvalidSearch(f"more than {MAX_INCLUDES} includes")

    def _reference(self, name: str, resource_type: str, code: str) -> SearchParameter | None:
        if code == "*":
            return None
        parameter = self._parameters.get(resource_type, code)
        if parameter is None:
            raise UnknownParameter(f"{name}: {resource_type}:{shown(code)} is unknown")
        if parameter.type is not SearchType.REFERENCE:
            raise InvalidSearch(f"{name}: {resource_type}:{code} is not a reference")
        return parameter


_ONE_VALUE: Mapping[str, Callable[[_Reading, str], None]] = {
    "_total": _Reading._read_total,
    "_summary": _Reading._read_summary,
    "_elements": _Reading._read_elements,
    "_contained": _Reading._read_contained,
    "_sort": _Reading._read_sort,
}
_RESULT_PARAMETERS = frozenset({*_ONE_VALUE, "_count", "_include", "_revinclude"})
