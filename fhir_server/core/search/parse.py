"""Search parsing: names and texts in, a `Query` with nothing left to decide out.

https://hl7.org/fhir/R4/search.html. A modifier that is not supported is refused whatever
the handling, as R4 demands; an unknown parameter is refused or named in `ignored`.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from fhir_server.core import date_range
from fhir_server.core.search import plain
from fhir_server.core.search.criteria import CriteriaReader, UnknownParameter, shown
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import AllOf, Criterion
from fhir_server.core.search.reading import (
    NOT_SUPPORTED,
    OF_THE_RESPONSE,
    RESULT_PARAMETERS,
    Reading,
)
from fhir_server.core.search.reading import ParsedSearch as ParsedSearch
from fhir_server.core.search.values import ValueReader
from fhir_server.core.terminology.terminology import NOTHING_KNOWN, Terminology
from fhir_server.errors import InvalidSearch, Issue

Params = Sequence[tuple[str, str]]

MAX_PARAMETERS = 500
MAX_VALUES = 5_000
MAX_TEXT_LENGTH = 500_000

_FEW_PARAMETERS = 32
# About the page, and said by themselves.
_OF_THE_PAGE = frozenset(
    {"_count", "_sort", "_total", "_summary", "_elements", "_include", "_revinclude"}
)
# So short a search cannot have too many values.
_SHORT = MAX_VALUES // 2

# No criteria, though they are named as one might be.
_RESERVED = NOT_SUPPORTED | OF_THE_RESPONSE | {"_contained"}


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
    """What is said of the page, and by each criterion, is said in many other searches too."""
    try:
        of_page = tuple([pair for pair in _bounded(params) if pair[0] in _OF_THE_PAGE])
        page = _parse_page(resource_type, of_page, parameters, sizes)
        criteria: list[Criterion] = []
        for name, text in params:
            if name not in _OF_THE_PAGE:
                if name in _RESERVED:
                    raise UnknownParameter(name)
                found = plain.read(parameters, base_url, time_zone, resource_type, name, text)
                criteria += found.criteria if isinstance(found, AllOf) else (found,)
    except InvalidSearch:
        # Read again, in the order in which it is written: what is wrong first is told, and
        # what is unknown is ignored.
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
    query = page.query._replace(criteria=tuple(criteria))
    return page._replace(query=query, applied=tuple(params))


@lru_cache(maxsize=1_024)
def _parse_page(
    resource_type: str,
    params: Params,
    parameters: SearchParameters,
    sizes: tuple[int, int],
) -> ParsedSearch:
    """A search without criteria: all of `params` are about the page."""
    max_page_size, default_page_size = sizes

    def read(name: str, text: str) -> Criterion:
        raise UnknownParameter(name)

    reading = Reading(resource_type, parameters, read, min(default_page_size, max_page_size))
    for name, text in params:
        reading.read(name, text, max_page_size)
    return reading.result((), ())


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
    reading = Reading(resource_type, parameters, read, page_size)
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
        if base in RESULT_PARAMETERS or base in NOT_SUPPORTED or base in OF_THE_RESPONSE:
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
