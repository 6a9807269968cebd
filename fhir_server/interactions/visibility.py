"""Visibility: whether versions that were found without a search are within somebody's reach.

A search obeys by its criteria. A version of a history, a change, a queued delivery is shown
if it is within reach itself, and the resource as it is now is too: what was noted under the
wrong patient and corrected is not the first patient's any more, in none of its versions.
A deletion is what was deleted. Blocking: for threads that may wait.
"""

from collections.abc import Callable, Iterable, Sequence

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Clause, Query, TokenValue
from fhir_server.core.security.reach import Act, Reach
from fhir_server.core.version import Version
from fhir_server.store.protocol import Outbox

_SEARCHED_AT_ONCE = 200


class Visibility:
    """Safe from any thread."""

    def __init__(
        self,
        outbox: Outbox,
        parameters: SearchParameters,
        index: Callable[[Resource], IndexEntries],
    ) -> None:
        self._outbox = outbox
        self._parameters = parameters
        self._index = index

    def visible(self, reach: Reach, act: Act, versions: Sequence[Version]) -> tuple[Version, ...]:
        """Those of `versions` that are shown, in their order.

        Raises:
            StoreUnavailable: it cannot be told.
        """
        current = self._current(reach, act, {version.key for version in versions})
        return tuple(
            version
            for version in versions
            if reach.is_open(act, version.key.resource_type)
            or (version.key in current and self._shows(reach, act, version))
        )

    def deleted(self, reach: Reach, act: Act, key: ResourceKey) -> Version | None:
        """The deletion of what was within reach; None for anything else."""
        current = self._outbox.read(key)
        if current is None or not current.is_deletion or reach.has_links(act, key.resource_type):
            # What led to it may have gone with it.
            return None
        return current if self._shows(reach, act, current) else None

    def _current(self, reach: Reach, act: Act, keys: Iterable[ResourceKey]) -> set[ResourceKey]:
        by_type: dict[str, list[str]] = {}
        for key in keys:
            if not reach.is_open(act, key.resource_type):
                by_type.setdefault(key.resource_type, []).append(key.resource_id)
        found: set[ResourceKey] = set()
        for resource_type, ids in by_type.items():
            for start in range(0, len(ids), _SEARCHED_AT_ONCE):
                some = ids[start : start + _SEARCHED_AT_ONCE]
                query = restricted(self._parameters, reach, act, resource_type, some)
                found.update(version.key for version in self._outbox.search(query).versions)
        for resource_type, ids in by_type.items():
            for key in (ResourceKey(resource_type, each) for each in ids):
                if key not in found and self.deleted(reach, act, key) is not None:
                    found.add(key)
        return found

    def _shows(self, reach: Reach, act: Act, version: Version) -> bool:
        state: Version | None = version
        if version.is_deletion:
            state = self._outbox.read(version.key, version.version_id - 1)
        if state is None or state.is_deletion:
            return False
        return reach.shows(act, state, self._index(state.resource()))


def restricted(
    parameters: SearchParameters,
    reach: Reach,
    act: Act,
    resource_type: str,
    ids: Iterable[str],
) -> Query:
    """The search for those of some resources that are within reach."""
    parameter = parameters.get(resource_type, "_id")
    if parameter is None:
        raise LookupError(f"no search parameter {resource_type}._id")
    values = tuple(TokenValue(None, each) for each in ids)
    query = Query(resource_type, (Clause(parameter, "", values),), count=len(values))
    return query._replace(restriction=reach.restriction(act, query))
