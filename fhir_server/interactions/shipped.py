"""Shipped definitions: resources that come with the program, to be read and searched.

They stand beside what is stored, and nobody changes them. Their versions are called by the
day that they are of, and stand before everything that was ever committed.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search import match
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.match import Indexed, SortValue
from fhir_server.core.search.query import Cursor, Query, SortKey, Total
from fhir_server.core.version import Version, as_stored, format_instant
from fhir_server.errors import Unsupported
from fhir_server.interactions.page_order import Place, cut, in_order
from fhir_server.store.protocol import Page

# When R4 was published, for what has no date of its own.
_R4 = "2019-11-01"
_BEFORE_ALL = -(2**31)


class Shipped:
    """One a process. What is searched is indexed when its type is first asked for."""

    def __init__(
        self,
        definitions: Iterable[Resource] = (),
        index: Callable[[Resource], IndexEntries] | None = None,
    ) -> None:
        """`definitions` have ids; of several with one key the last counts."""
        found = {ResourceKey(each["resourceType"], each["id"]): each for each in definitions}
        self._index = index
        self._by_type: dict[str, Sequence[Indexed]] = {}
        # Older ones first: in the stores too, sequences and times have one order.
        self._definitions = {
            key: found[key] for key in sorted(found, key=lambda k: (_day(found[k]), k))
        }
        self._sequences = {key: n for n, key in enumerate(self._definitions, _BEFORE_ALL)}
        self.resource_types = frozenset(key.resource_type for key in found)

    def check_changeable(self, key: ResourceKey) -> None:
        """Raises `Unsupported` for a key of one of these."""
        if key in self._definitions:
            raise Unsupported(f"{key} is a part of this server: it cannot be changed")

    def get(self, key: ResourceKey) -> Version | None:
        """The version of `key`; None where it is none of these."""
        return self._version(key)[0] if key in self._definitions else None

    def page(self, query: Query, as_of: int) -> Page:
        """What of these matches `query`, as a store gives it."""
        found = {each.key for each in match.search(query._replace(sort=()), self._indexed)}
        places = in_order(
            [
                Place(_cursor(each, query.sort), each.version)
                for each in self._indexed(query.resource_type)
                if each.version.key in found
            ],
            query.sort,
        )
        total = None if query.total is Total.NONE else len(places)
        return cut(query, _from_cursor(query, places), as_of, total)

    def _indexed(self, resource_type: str) -> Sequence[Indexed]:
        if resource_type not in self.resource_types or self._index is None:
            return ()
        if resource_type not in self._by_type:
            read = [self._version(k) for k in self._sequences if k.resource_type == resource_type]
            self._by_type[resource_type] = [
                Indexed(self._index(resource), version) for version, resource in read
            ]
        return self._by_type[resource_type]

    def _version(self, key: ResourceKey) -> tuple[Version, Resource]:
        definition = self._definitions[key]
        when = datetime.fromisoformat(_day(definition)).replace(tzinfo=UTC)
        number = int(f"{when:%Y%m%d}")
        resource = as_stored(key, number, format_instant(when), definition)
        body = resource_json.format(resource)
        return Version(key, number, when, "create", body, self._sequences[key]), resource


def _day(definition: Resource) -> str:
    return str(definition.get("date") or _R4)[:10]


def _cursor(indexed: Indexed, sort: Sequence[SortKey]) -> Cursor:
    values = match.sort_values(indexed.entries, indexed.version, sort)
    return Cursor(
        tuple(_as_stored(value, key) for value, key in zip(values, sort, strict=True)),
        indexed.version.sequence,
    )


def _as_stored(value: SortValue, key: SortKey) -> int | str | None:
    """A sort value as the stores have it."""
    if key.parameter.code == "_lastUpdated" and isinstance(value, int):
        return value // 1_000
    return str(value) if isinstance(value, Decimal) else value


def _from_cursor(query: Query, places: list[Place]) -> Sequence[Place]:
    """Those of `places` that stand on the side of the cursor that is asked for."""
    cursor = query.after or query.before
    if cursor is None:
        return places
    mark = Place(cursor, None)
    ordered = in_order([*(p for p in places if p.cursor != cursor), mark], query.sort)
    at = ordered.index(mark)
    return ordered[at + 1 :] if query.before is None else ordered[:at]
