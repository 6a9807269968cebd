"""A parsed search: what `parse.py` makes and what stores and the oracle run.

https://hl7.org/fhir/R4/search.html
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.parameter import SearchParameter


class Prefix(StrEnum):
    """How an ordered value is compared. https://hl7.org/fhir/R4/search.html#prefix"""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    LT = "lt"
    GE = "ge"
    LE = "le"
    SA = "sa"
    EB = "eb"
    AP = "ap"


class TokenValue(NamedTuple):
    """`system|code`. `system` None is any, ``""`` is none; `code` None is any."""

    system: str | None
    code: str | None


class ReferenceValue(NamedTuple):
    """`Type/id`, a bare id (`resource_type` None), or a `url` that is not of this server."""

    resource_type: str | None
    resource_id: str | None
    url: str | None = None
    version: str | None = None


class DateValue(NamedTuple):
    """A prefix and the range a date covers; for `ap` the range is widened already."""

    prefix: Prefix
    range: DateRange


class StringValue(NamedTuple):
    """`folded` like `StringEntry.folded`, `exact` as written."""

    folded: str
    exact: str


class NumberValue(NamedTuple):
    """A number with the range its precision implies; for `ap` widened already."""

    prefix: Prefix
    value: Decimal
    low: Decimal
    high: Decimal


class QuantityValue(NamedTuple):
    """`number|system|code`. `system` and `code` None are any.

    `canonical_*` are set where UCUM knows the unit, else None; `code` also matches
    `unit` where no system is given.
    """

    number: NumberValue
    system: str | None
    code: str | None
    canonical: NumberValue | None = None
    canonical_code: str | None = None


class UriValue(NamedTuple):
    """A uri as it is written."""

    uri: str


class MissingValue(NamedTuple):
    """The value of `:missing`."""

    is_missing: bool


class TextValue(NamedTuple):
    """A folded word of a text; with `is_prefix` any word that begins so."""

    word: str
    is_prefix: bool = False


class CompositeValue(NamedTuple):
    """`a$b`: one value for each component."""

    parts: tuple["Value", ...]


Value = (
    TokenValue
    | ReferenceValue
    | DateValue
    | StringValue
    | NumberValue
    | QuantityValue
    | UriValue
    | MissingValue
    | TextValue
    | CompositeValue
)


class Clause(NamedTuple):
    """`parameter:modifier=value,value`: true where any of `values` matches.

    `modifier` is the bare word ("exact", "not"), "" for none. A type modifier
    (`subject:Patient`) has become part of the values. Three more come from `_filter`:
    "equal" and "ends" compare a whole folded string and its end, "unequal" is true where
    some entry matches none of the values.
    """

    parameter: SearchParameter
    modifier: str
    values: tuple[Value, ...]


class Chain(NamedTuple):
    """`subject:Patient.name=x`: a reference to a `resource_type` for which `criterion` holds."""

    parameter: SearchParameter
    resource_type: str
    criterion: "Criterion"


class Has(NamedTuple):
    """`_has:Observation:patient:code=x`: some `parameter.resource_type` that refers here."""

    parameter: SearchParameter
    criterion: "Criterion"


class AnyOf(NamedTuple):
    """True where any of `criteria` is: chains over several types, `_filter`."""

    criteria: tuple["Criterion", ...]


# No named tuples: those with the same content are equal, and these mean other things.
@dataclass(frozen=True, slots=True)
class AllOf:
    """True where all of `criteria` are."""

    criteria: tuple["Criterion", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """True where `criterion` is not."""

    criterion: "Criterion"


Criterion = Clause | Chain | Has | AnyOf | AllOf | Not


class SortKey(NamedTuple):
    """Order by the lowest value of `parameter`, or by its highest when `descending`.

    Dates order by the start of their range. Resources without a value come last in
    both directions. The store adds the commit sequence as the last key, so the order is total.
    """

    parameter: SearchParameter
    descending: bool


class Total(StrEnum):
    """Whether a search counts all its matches."""

    NONE = "none"
    ESTIMATE = "estimate"
    ACCURATE = "accurate"


class Include(NamedTuple):
    """`_include`, or `_revinclude` when `reverse`.

    `parameter` None is `*`. `resource_type` is the type whose reference is followed,
    `target` limits what it may point to.
    """

    resource_type: str
    parameter: SearchParameter | None
    target: str | None = None
    reverse: bool = False
    iterate: bool = False


class Cursor(NamedTuple):
    """Where a page ends: the sort values and the sequence of its last resource.

    A sort value is what the store ordered by (an int, a str, a Decimal as text), or None
    for a resource that has none.
    """

    values: tuple[int | str | None, ...]
    sequence: int


class Restriction(NamedTuple):
    """What a principal may see of a type: criteria that every query of it obeys.

    Empty until access rules exist. A store adds them wherever it looks at a resource of
    the type: matches, chains, `_has`, includes, totals.
    """

    by_type: tuple[tuple[str, tuple[Criterion, ...]], ...] = ()


UNRESTRICTED = Restriction()


class Query(NamedTuple):
    """One search of one resource type. Everything here is decided; nothing is text any more.

    `as_of` is the commit sequence that the whole search is bound to, so that its pages
    and its total belong to one moment; None is now, and the store says which it was.
    `before` asks for the page that ends there, in place of one that begins behind `after`.
    """

    resource_type: str
    criteria: tuple[Criterion, ...] = ()
    sort: tuple[SortKey, ...] = ()
    count: int = 50  # type: ignore[assignment]
    after: Cursor | None = None
    as_of: int | None = None
    total: Total = Total.NONE
    restriction: Restriction = UNRESTRICTED
    before: Cursor | None = None
