"""Reading a search, parameter by parameter: its criteria, its order, and how much is shown.

https://hl7.org/fhir/R4/search.html
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fhir_server.core.search.criteria import UnknownParameter, shown
from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType
from fhir_server.core.search.query import AllOf, Criterion, Include, Query, SortKey, Total
from fhir_server.errors import InvalidSearch, Issue

MAX_SORT_KEYS = 10
MAX_INCLUDES = 50
MAX_ELEMENTS = 200

SUMMARIES = frozenset({"true", "text", "data", "count", "false"})

NOT_SUPPORTED = frozenset({"_query", "_type", "_containedType"})
OF_THE_RESPONSE = frozenset({"_format", "_pretty"})
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


class Reading:
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
        if base in NOT_SUPPORTED:
            raise InvalidSearch(f"{shown(base)} is not supported")
        if name in OF_THE_RESPONSE:
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


_ONE_VALUE: Mapping[str, Callable[[Reading, str], None]] = {
    "_total": Reading._read_total,
    "_summary": Reading._read_summary,
    "_elements": Reading._read_elements,
    "_contained": Reading._read_contained,
    "_sort": Reading._read_sort,
}
RESULT_PARAMETERS = frozenset({*_ONE_VALUE, "_count", "_include", "_revinclude"})
