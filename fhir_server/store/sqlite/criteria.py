"""Criteria as SQL: lookups to begin with, and tests of one version.

A search begins with one criterion's rows and tests the others on each of them. What a
chain or `_has` means is looked up first where it is little, so that it becomes plain
references.
"""

# ruff: noqa: S608 - put together from constants; every value is bound

import sqlite3
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from fhir_server.core.search.parameter import SearchParameter, SearchType
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Chain,
    Clause,
    CompositeValue,
    Criterion,
    Has,
    Not,
    ReferenceValue,
    Restriction,
    Value,
)
from fhir_server.store.sqlite.clauses import Clauses, of_kind
from fhir_server.store.sqlite.lookup import (
    BY_SEQ,
    Lookup,
    Rank,
)
from fhir_server.store.sqlite.moment import Moment
from fhir_server.store.sqlite.names import Names
from fhir_server.store.sqlite.resolve import targets
from fhir_server.store.sqlite.sql import (
    FALSE,
    TRUE,
    Sql,
    all_of,
    any_of,
    fetch,
    is_in,
    join,
    negation,
    sql,
)

V = TypeVar("V", bound=Value)

# Of how many criteria the rows are counted to find where to begin.
PROBED = 12
# A union of more is no place to begin, and SQLite limits their number.
MOST_LOOKUPS = 100
# So many resources that a chain leads to are named; of more the statement asks each time.
NAMED = 500


class Drive(NamedTuple):
    """Lookups that find every version which some criteria are true of.

    `covers` are the places of those criteria. Unless `is_exact` the lookups find more,
    and the criteria have to be tested as well.
    """

    lookups: tuple[Lookup, ...]
    covers: frozenset[int] = frozenset()
    is_exact: bool = True

    @property
    def rank(self) -> Rank:
        return max((lookup.rank for lookup in self.lookups), default=Rank.IDENTITY)


class Criteria:
    """Compiles the criteria of one search, on one snapshot."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        names: Names,
        moment: Moment,
        restriction: Restriction,
        sort_limit: int,
    ) -> None:
        self._connection = connection
        self._names = names
        self._moment = moment
        self.clauses = Clauses(connection, names, moment)
        self._restrictions = dict(restriction.by_type)
        self._sort_limit = sort_limit
        self._aliases = 0
        self._found: dict[Criterion, tuple[Lookup, ...]] = {}
        self._selects: dict[Chain, Sql] = {}
        self._keys: dict[Chain, tuple[int, ...] | None] = {}

    @property
    def generation(self) -> int:
        """Of the index rows that are searched."""
        return self._moment.generation

    def type_id(self, resource_type: str) -> int | None:
        return self._names.type(resource_type)

    def restricted(
        self, resource_type: str, criteria: Sequence[Criterion]
    ) -> tuple[Criterion, ...]:
        """`criteria` with those that say what may be seen of the type."""
        return (*self._restrictions.get(resource_type, ()), *criteria)

    def visible(self, version: str) -> Sql:
        as_of = self._moment.as_of
        return sql(f"{version}.seq <= %s AND {version}.superseded > %s", as_of, as_of)

    def test(self, criterion: Criterion, version: str) -> Sql:
        """Whether `criterion` is true of the row `version` of the version table."""
        match criterion:
            case AnyOf(criteria):
                return any_of(self.test(each, version) for each in criteria)
            case AllOf(criteria):
                return all_of(self.test(each, version) for each in criteria)
            case Not(inner):
                return negation(self.test(inner, version))
            case Clause(parameter, modifier, values):
                if modifier == "missing":
                    return self.clauses.is_missing(parameter, values, version)
                if parameter.code == "_lastUpdated":
                    return self.clauses.updated(values, version)
                if parameter.type is SearchType.COMPOSITE:
                    return any_of(
                        self.clauses.composite(parameter, value, version)
                        for value in of_kind(values, CompositeValue)
                    )
                found = any_of(lookup.test(version) for lookup in self.lookups(criterion))
                return negation(found) if modifier == "not" else found
            case Chain() | Has():
                return any_of(lookup.test(version) for lookup in self.lookups(criterion))

    def drive(self, criterion: Criterion, place: int) -> Drive | None:
        """Lookups that find all which `criterion` is true of; None if it is no place to begin."""
        found = self._drive(criterion, place)
        return None if found is None or len(found.lookups) > MOST_LOOKUPS else found

    def _drive(self, criterion: Criterion, place: int) -> Drive | None:
        covers = frozenset((place,))
        match criterion:
            case AnyOf(criteria):
                drives = [self._drive(each, place) for each in criteria]
                found = [drive for drive in drives if drive is not None]
                if len(found) < len(drives):
                    return None
                lookups = tuple(lookup for drive in found for lookup in drive.lookups)
                return Drive(lookups, covers, all(drive.is_exact for drive in found))
            case AllOf(criteria):
                found = [d for each in criteria if (d := self.drive(each, place)) is not None]
                if not found:
                    return None
                return min(found, key=lambda drive: drive.rank)._replace(is_exact=False)
            case Not():
                return None
            case Clause(parameter, modifier, values):
                if modifier in ("not", "missing") or parameter.code == "_lastUpdated":
                    return None
                if parameter.type is SearchType.COMPOSITE:
                    return Drive(
                        self.clauses.composite_lookups(parameter, values), covers, is_exact=False
                    )
                return Drive(self.lookups(criterion), covers)
            case Chain() | Has():
                return Drive(self.lookups(criterion), covers)

    def best(self, drives: Sequence[Drive]) -> tuple[Drive | None, int]:
        """The drive with the fewest rows, counted up to the sort limit, and how many it has."""
        if not drives:
            return None, self._sort_limit
        first = min(drives, key=lambda drive: drive.rank)
        if first.rank is Rank.IDENTITY:
            return first, 0
        counted = [(self._count(drive), drive.rank, n) for n, drive in enumerate(drives[:PROBED])]
        count, _, number = min(counted)
        return drives[number], count

    def matching(self, resource_type: str, criteria: Sequence[Criterion], what: str) -> Sql:
        """A select of the column `what` of all matches, in no order.

        ``{v}`` in `what` is the row of the version table.
        """
        criteria = self.restricted(resource_type, criteria)
        drives = [d for n, each in enumerate(criteria) if (d := self.drive(each, n)) is not None]
        drive, _ = self.best(drives)
        version, source, where = self.source(resource_type, criteria, drive)
        return sql(f"SELECT {what.format(v=version)} FROM %s WHERE %s", source, where)

    def source(
        self, resource_type: str, criteria: Sequence[Criterion], drive: Drive | None
    ) -> tuple[str, Sql, Sql]:
        """All matches as a row source: the alias of the version, what is FROM, what is WHERE."""
        version = self._alias()
        type_id = self._names.type(resource_type)
        # A drive may find more types: what refers to a Patient may refer to a Group.
        is_of_type = FALSE if type_id is None else sql(f"{version}.type = %s", type_id)
        where = all_of((is_of_type, self.visible(version), self.tests(criteria, drive, version)))
        if drive is None:
            return version, Sql(f"version {version} INDEXED BY version_by_type"), where
        rows = join(" UNION ", (lookup.sequences() for lookup in drive.lookups))
        if len(drive.lookups) == 1:
            rows = sql("SELECT DISTINCT seq FROM (%s)", rows)
        if not drive.lookups:
            rows = Sql("SELECT 0 AS seq WHERE 0")
        source = sql(f"(%s) d CROSS JOIN version {version} ON {version}.seq = d.seq", rows)
        return version, source, where

    def tests(self, criteria: Sequence[Criterion], drive: Drive | None, version: str) -> Sql:
        """All criteria but those that the drive answers."""
        covered = drive.covers if drive is not None and drive.is_exact else frozenset()
        return all_of(
            self.test(each, version) for n, each in enumerate(criteria) if n not in covered
        )

    def targets(
        self, criterion: Criterion, reference: str, target: str | None
    ) -> tuple[int, ...] | None:
        """The keys that `criterion` wants the parameter `reference` to name.

        None if it wants something else, or what is too much to name. With a `target`
        it must want resources of that type.
        """
        if isinstance(criterion, Chain):
            parameter = criterion.parameter
            wanted = criterion.resource_type
            if target not in (None, wanted) or not _says(parameter, reference, wanted):
                return None
            return self._chained(criterion)
        if not isinstance(criterion, Clause) or criterion.modifier:
            return None
        values = of_kind(criterion.values, ReferenceValue)
        if any(value.url is not None or value.version is not None for value in values):
            return None
        sources = criterion.parameter.sources
        if len(sources) != 1 or sources[0].code != reference:
            return None
        limit = sources[0].target
        if target is not None and limit is None:
            if any(value.resource_type != target for value in values):
                return None
        elif target != limit and target is not None:
            return None
        return tuple(self.clauses.resolver.keys(values, limit))

    def lookups(self, criterion: Clause | Chain | Has) -> tuple[Lookup, ...]:
        """Rows of which one exists for each version that `criterion` (without :not) is true of."""
        found = self._found.get(criterion)
        if found is None:
            match criterion:
                case Clause():
                    found = tuple(self.clauses.lookups(criterion))
                case Chain():
                    found = tuple(self._chain(criterion))
                case Has():
                    found = (self._has(criterion),)
            self._found[criterion] = found
        return found

    def _chain(self, chain: Chain) -> Iterator[Lookup]:
        """References to what the inner criterion is true of."""
        parameter, resource_type, _ = chain
        matching = self._matching(chain)
        keys = self._chained(chain)
        for source in parameter.sources:
            number = self.clauses.parameter(parameter.resource_type, source.code)
            if number is None or source.target not in (None, resource_type):
                continue
            if keys is not None:
                yield from targets(number, keys)
            else:
                yield Lookup(
                    "reference_entry",
                    sql("i.parameter = %s AND i.target IN (%s)", number, matching),
                    Rank.SCAN,
                    keying=BY_SEQ,
                )

    def _has(self, has: Has) -> Lookup:
        """Versions of what the matches of the inner criterion refer to."""
        parameter, inner = has
        other = parameter.resource_type
        criteria = self.restricted(other, (inner,))
        drives = [d for n, each in enumerate(criteria) if (d := self.drive(each, n)) is not None]
        drive, _ = self.best(drives)
        version, source, where = self.source(other, criteria, drive)
        referred = any_of(
            sql(
                "r.parameter = %s AND %s",
                number,
                TRUE
                if each.target is None
                else sql(
                    "EXISTS (SELECT 1 FROM resource t WHERE t.key = r.target AND t.type = %s)",
                    self._names.type(each.target) or 0,
                ),
            )
            for each in parameter.sources
            if (number := self.clauses.parameter(other, each.code)) is not None
        )
        matching = sql(
            f"SELECT r.target FROM %s CROSS JOIN reference_entry r {BY_SEQ} "
            f"ON r.seq = {version}.seq AND %s WHERE %s",
            source,
            referred,
            where,
        )
        keys = self._few(matching)
        if keys is not None:
            return Lookup("version", is_in("i.resource", keys), Rank.IDENTITY)
        return Lookup("version", sql("i.resource IN (%s)", matching), Rank.SCAN)

    def _matching(self, chain: Chain) -> Sql:
        found = self._selects.get(chain)
        if found is None:
            found = self.matching(chain.resource_type, (chain.criterion,), "{v}.resource")
            self._selects[chain] = found
        return found

    def _chained(self, chain: Chain) -> tuple[int, ...] | None:
        """The resources that a chain leads to, if they are few."""
        if chain not in self._keys:
            self._keys[chain] = self._few(self._matching(chain))
        return self._keys[chain]

    def _few(self, keys: Sql) -> tuple[int, ...] | None:
        """The resource keys that a select finds, if they are few."""
        rows = fetch(self._connection, sql(f"SELECT DISTINCT * FROM (%s) LIMIT {NAMED + 1}", keys))
        return None if len(rows) > NAMED else tuple(row[0] for row in rows)

    def _count(self, drive: Drive) -> int:
        """How many rows it has, up to the sort limit."""
        count = 0
        for lookup in drive.lookups:
            select = sql(
                f"SELECT count(*) FROM (%s LIMIT {self._sort_limit - count})", lookup.sequences()
            )
            count += fetch(self._connection, select)[0][0]
            if count >= self._sort_limit:
                break
        return count

    def _alias(self) -> str:
        self._aliases += 1
        return f"v{self._aliases}"


def _says(parameter: SearchParameter, reference: str, target: str) -> bool:
    """Whether `parameter` is `reference`, or that part of it which names a `target`."""
    sources = parameter.sources
    return (
        len(sources) == 1 and sources[0].code == reference and sources[0].target in (None, target)
    )
