"""Plain criteria: one value without a modifier, read once and remembered.

The searches that a system lives on differ in a patient's id and a date. What is remembered
is said by the text and the definitions alone: not by who asks, nor when.
"""

from datetime import UTC, datetime
from functools import lru_cache

from fhir_server.core import date_range
from fhir_server.core.search.criteria import SPECIAL, CriteriaReader
from fhir_server.core.search.parameter import SearchParameters, SearchType
from fhir_server.core.search.query import Clause, Criterion
from fhir_server.core.search.values import ValueReader
from fhir_server.core.terminology.terminology import NOTHING_KNOWN

_REMEMBERED = 8_192
LONGEST = 128
ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)


def is_plain(name: str, text: str) -> bool:
    """Whether `name=text` is such a value.

    An approximate date means other days tomorrow. A list, a chain, a modifier or a special
    parameter may cost much, or ask for definitions that are stored.
    """
    return (
        0 < len(text) <= LONGEST
        and ":" not in name
        and "." not in name
        and "," not in text
        and "$" not in text
        and not text.startswith("ap")
        and name not in SPECIAL
    )


@lru_cache(maxsize=_REMEMBERED)
def read(
    parameters: SearchParameters,
    base_url: str,
    time_zone: str,
    resource_type: str,
    name: str,
    text: str,
) -> Criterion:
    """The criterion of a plain value.

    Raises:
        UnknownParameter: there is no such parameter.
        InvalidSearch: it cannot be applied.
    """
    values = _value_reader(parameters, base_url, time_zone)
    parameter = parameters.get(resource_type, name)
    if parameter is not None and parameter.type is SearchType.DATE:
        # What differs most from one search to the next.
        return Clause(parameter, "", (values.date(name, text),))
    return CriteriaReader(parameters, values, NOTHING_KNOWN).read(resource_type, name, text)


@lru_cache(maxsize=64)
def _value_reader(parameters: SearchParameters, base_url: str, time_zone: str) -> ValueReader:
    zone = date_range.load_zone(time_zone)
    return ValueReader(base_url, zone, ANY_TIME, parameters.resource_types)
