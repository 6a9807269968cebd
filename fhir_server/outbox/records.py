"""Records over a store: what sinks look up when they decide and translate."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.parse import parse
from fhir_server.core.version import Version, next_version
from fhir_server.store.protocol import Outbox, Transaction

_PAGE = 500


class StoreRecords:
    """Blocking; any thread may use it. `parameters` are those of R4: added ones are not known."""

    def __init__(
        self,
        outbox: Outbox,
        parameters: SearchParameters,
        now: Callable[[], datetime],
        *,
        base_url: str,
        time_zone: str,
    ) -> None:
        self._outbox = outbox
        self._parameters = parameters
        self._now = now
        self._base_url = base_url
        self._time_zone = time_zone

    def read(self, key: ResourceKey, version_id: int | None = None) -> Version | None:
        return self._outbox.read(key, version_id)

    def search(
        self, resource_type: str, params: Sequence[tuple[str, str]], limit: int
    ) -> Iterator[Resource]:
        query = parse(
            resource_type,
            params,
            self._parameters,
            base_url=self._base_url,
            time_zone=self._time_zone,
            now=self._now(),
            max_page_size=_PAGE,
            default_page_size=min(_PAGE, limit),
            strict=True,
        ).query
        while limit > 0:
            page = self._outbox.search(query)
            for version in page.versions[:limit]:
                yield version.resource()
            limit -= len(page.versions)
            if page.next is None:
                return
            query = query._replace(after=page.next, as_of=page.as_of)

    def newer(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        return self._outbox.changes(after, resource_types)

    def answer(self, request: Version, resources: Sequence[Resource]) -> bool:
        def decide(tx: Transaction) -> bool:
            current = tx.read(request.key)
            if current is None or current.version_id != request.version_id:
                return False
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                tx.put(*next_version(tx.read(key), key, resource, tx.now))
            return True

        return self._outbox.commit(decide)
