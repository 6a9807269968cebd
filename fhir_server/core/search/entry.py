"""Index entries: what a resource says to each search parameter, ready to be stored.

Both stores and the oracle (`match.py`) compare these, never the resource's text.
`parameter` is the code of a parameter that owns entries (see `parameter.Source`). Two
more kinds of token entries hang on a parameter: ``subject:identifier`` (a reference's
logical identifier) and ``identifier:of-type`` (an Identifier's type, its code being
``type-code|value``).

`element` tells which repetition of a composite's element an entry comes from, counted in
the order of the resource: the parts of a composite match within one such element. It is
0 where no composite needs it.
"""

from decimal import Decimal
from typing import NamedTuple

from fhir_server.core.date_range import DateRange

LEAST = Decimal("-1E+6144")
GREATEST = Decimal("1E+6144")
"""Stand for no limit: finite, so that whatever keeps decimals can keep them."""


class TokenEntry(NamedTuple):
    """A coded value. No system is ``""``; no code (a CodeableConcept of text only) is ``""``.

    Few resources share an Identifier or a ContactPoint, many share a code, so stores
    keep the two apart: `is_identifier` tells which this is. `text` is the display or
    text, for `:text`, as it was written.
    """

    parameter: str
    system: str
    code: str
    is_identifier: bool = False
    text: str = ""
    element: int = 0


class ReferenceEntry(NamedTuple):
    """A reference. Local ones have `resource_type` and `resource_id`, others only `url`.

    A canonical or an absolute URL of another server is a `url`; `version` is the part
    behind ``/_history/`` or ``|``.
    """

    parameter: str
    resource_type: str
    resource_id: str
    url: str = ""
    version: str = ""
    element: int = 0


class DateEntry(NamedTuple):
    """A date, dateTime, instant, Period or Timing as the range it covers."""

    parameter: str
    range: DateRange
    element: int = 0


class StringEntry(NamedTuple):
    """A text: `folded` without case and accents for the default match, `exact` as written."""

    parameter: str
    folded: str
    exact: str
    element: int = 0


class NumberEntry(NamedTuple):
    """A number: `low` and `high` are the least and the greatest it may be, both included.

    They are one and the same unless it is a Range or has a comparator; what it leaves open
    is `LEAST` or `GREATEST`. A comparator's own limit counts as included. The precision of
    what is stored implies nothing: 5.4 is not greater than 5.4, and a search for 5.40
    finds it. Only what is searched for has an implied range.
    """

    parameter: str
    low: Decimal
    high: Decimal
    element: int = 0


class QuantityEntry(NamedTuple):
    """A quantity as it was written and in canonical units.

    `low` and `high` are as in `NumberEntry`, in units of `code`; `canonical_low` and
    `canonical_high` the same in `canonical_code`, where UCUM knows the unit (else
    `canonical_code` is ``""`` and they equal `low` and `high`).
    """

    parameter: str
    low: Decimal
    high: Decimal
    system: str
    code: str
    unit: str
    canonical_low: Decimal
    canonical_high: Decimal
    canonical_code: str
    element: int = 0


class UriEntry(NamedTuple):
    """A uri, url, canonical or oid, as written."""

    parameter: str
    uri: str
    element: int = 0


class TextEntry(NamedTuple):
    """A text of many words, for `_text` and `_content`: the distinct ones, folded, in order.

    Resources that say the same in words have equal entries, so a store keeps each once.
    """

    parameter: str
    words: tuple[str, ...]
    element: int = 0


Entry = (
    TokenEntry
    | ReferenceEntry
    | DateEntry
    | StringEntry
    | NumberEntry
    | QuantityEntry
    | UriEntry
    | TextEntry
)


class IndexEntries(NamedTuple):
    """All entries of one resource, by kind; none stands twice."""

    tokens: tuple[TokenEntry, ...] = ()
    references: tuple[ReferenceEntry, ...] = ()
    dates: tuple[DateEntry, ...] = ()
    strings: tuple[StringEntry, ...] = ()
    numbers: tuple[NumberEntry, ...] = ()
    quantities: tuple[QuantityEntry, ...] = ()
    uris: tuple[UriEntry, ...] = ()
    texts: tuple[TextEntry, ...] = ()
