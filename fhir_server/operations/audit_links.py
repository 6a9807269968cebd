"""Links from AuditEvents: criteria of what they refer to become criteria of the events themselves.

The trail is compared event by event, where no other resource is at hand. So what a chain or
`_has` leads to is searched for before, as whoever asks may see it, and named.
"""

from collections.abc import Callable, Iterable

from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameter
from fhir_server.core.search.query import (
    AllOf,
    AnyOf,
    Chain,
    Clause,
    Criterion,
    Has,
    Not,
    Query,
    ReferenceValue,
    TokenValue,
)
from fhir_server.core.version import Version
from fhir_server.errors import TooCostly
from fhir_server.store.protocol import Store

_AUDIT_EVENT = "AuditEvent"
_MOST = 1_000
_PAGE = 250
_NOTHING = AnyOf(())


class AuditLinks:
    """For one search; `own_id` is AuditEvent's parameter `_id`."""

    def __init__(
        self,
        store: Store,
        query: Query,
        index: Callable[[Resource], IndexEntries],
        own_id: SearchParameter,
    ) -> None:
        self._store = store
        self._query = query
        self._index = index
        self._own_id = own_id

    async def settled(self) -> Query:
        """The query with nothing in it that other resources decide.

        Raises:
            TooCostly: it leads to more resources than can be named.
        """
        criteria = [await self._settled(each) for each in self._query.criteria]
        return self._query._replace(criteria=tuple(criteria))

    async def _settled(self, criterion: Criterion) -> Criterion:
        match criterion:
            case AnyOf(criteria):
                return AnyOf(tuple([await self._settled(each) for each in criteria]))
            case AllOf(criteria):
                return AllOf(tuple([await self._settled(each) for each in criteria]))
            case Not(inner):
                return Not(await self._settled(inner))
            case Chain(parameter, resource_type, inner):
                targets = await self._found(resource_type, inner)
                values = tuple(ReferenceValue(resource_type, v.key.resource_id) for v in targets)
                return Clause(parameter, "", values) if values else _NOTHING
            case Has(parameter, inner):
                sources = await self._found(parameter.resource_type, inner)
                ids = tuple(dict.fromkeys(self._referred(sources, parameter)))
                values_of_id = tuple(TokenValue(None, each) for each in ids)
                return Clause(self._own_id, "", values_of_id) if ids else _NOTHING
        return criterion

    async def _found(self, resource_type: str, criterion: Criterion) -> list[Version]:
        """What whoever asks may see of a type and `criterion` is true of."""
        query = Query(resource_type, (criterion,), count=_PAGE, restriction=self._query.restriction)
        found: list[Version] = []
        while True:
            page = await self._store.search(query)
            found += page.versions
            if len(found) > _MOST:
                raise TooCostly(f"more than {_MOST} {resource_type}: ask for fewer of them")
            if page.next is None:
                return found
            query = query._replace(after=page.next, as_of=page.as_of)

    def _referred(self, sources: Iterable[Version], parameter: SearchParameter) -> Iterable[str]:
        codes = {source.code for source in parameter.sources}
        for version in sources:
            for entry in self._index(version.resource()).references:
                if entry.parameter in codes and entry.resource_type == _AUDIT_EVENT:
                    yield entry.resource_id
