"""GuardedTransaction: what a decision of one principal sees and may put.

Reads and searches find what is within reach. Puts are held against it where they commit:
the state before, the state after, and what the new state refers to. A fault undoes the
whole decision, and says the same whether what is out of reach is there or not.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Query
from fhir_server.core.security import subscriber
from fhir_server.core.security.reach import Act, Reach
from fhir_server.core.security.restriction import SUBSCRIPTION
from fhir_server.core.security.scope import Permission
from fhir_server.core.version import Version
from fhir_server.errors import Forbidden, NotFound
from fhir_server.interactions.visibility import restricted
from fhir_server.store.protocol import Page, Transaction
from fhir_server.store.trail import TrailEntry

_SEARCHED_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class WriteRules:
    """What it takes to tell what a resource is about."""

    parameters: SearchParameters
    index: Callable[[Resource], IndexEntries]


class _Put(NamedTuple):
    key: ResourceKey
    act: Permission
    before: Version | None
    after: Version


class GuardedTransaction:
    """`Transaction`, within the reach of one principal; `issued` are ids of the server's making."""

    def __init__(
        self, tx: Transaction, reach: Reach, rules: WriteRules, issued: Container[str]
    ) -> None:
        self._issued = issued
        self._tx = tx
        self._reach = reach
        self._rules = rules
        self._puts: dict[ResourceKey, _Put] = {}

    @property
    def now(self) -> datetime:
        return self._tx.now

    def read(self, key: ResourceKey) -> Version | None:
        """The current version if it is within reach; a deletion to who sees everyone."""
        if key in self._puts:
            return self._tx.read(key)
        if self._reach.is_open("any", key.resource_type):
            return self._tx.read(key)
        found = self._visible(key.resource_type, (key.resource_id,)).get(key)
        if found is None and self._reach.is_wide(key.resource_type):
            current = self._tx.read(key)
            found = current if current is not None and current.is_deletion else None
        return found

    def read_many(self, keys: Sequence[ResourceKey]) -> dict[ResourceKey, Version]:
        by_type: dict[str, list[str]] = {}
        for key in keys:
            by_type.setdefault(key.resource_type, []).append(key.resource_id)
        found: dict[ResourceKey, Version] = {}
        for resource_type, ids in by_type.items():
            if self._reach.is_open("any", resource_type):
                found |= self._tx.read_many([ResourceKey(resource_type, each) for each in ids])
            else:
                found |= self._visible(resource_type, ids)
        return found

    def search(self, query: Query) -> Page:
        return self._tx.search(query._replace(restriction=self._reach.restriction("s", query)))

    def record(self, entries: Sequence[TrailEntry]) -> None:
        self._tx.record(entries)

    def find(
        self, resource_type: str, identifiers: Iterable[tuple[str | None, str]]
    ) -> dict[tuple[str | None, str], tuple[ResourceKey, ...]]:
        found = self._tx.find(resource_type, identifiers)
        if self._reach.is_open("s", resource_type):
            return found
        ids = {key.resource_id for keys in found.values() for key in keys}
        visible = self._visible(resource_type, sorted(ids))
        shown = {
            identifier: tuple(key for key in keys if key in visible)
            for identifier, keys in found.items()
        }
        return {identifier: keys for identifier, keys in shown.items() if keys}

    def changes(self, after: int, resource_types: Sequence[str]) -> tuple[int, tuple[Version, ...]]:
        """As `Transaction.changes`, of types that are wholly within reach.

        Raises:
            Forbidden: one is not.
        """
        newest, changed = self._tx.changes(after, resource_types)
        if any(not self._reach.is_open("s", version.key.resource_type) for version in changed):
            raise Forbidden("this follows what others write")
        return newest, changed

    def put(self, version: Version, resource: Resource | Filled | None) -> None:
        """As `Transaction.put`.

        Raises:
            Forbidden, NotFound: it may not be put.
        """
        key = version.key
        act: Permission = "c" if version.is_creation else "d" if version.is_deletion else "u"
        if not self._reach.grants(act, key.resource_type):
            raise Forbidden(f"no scope of the token lets it {_WORDS[act]} a {key.resource_type}")
        before = None
        if key in self._puts:
            before = self._puts[key].before
        elif act == "c":
            self._check_new(version)
        elif not self._reach.is_open(act, key.resource_type):
            before = self._within(act, key)
        else:
            before = self._tx.read(key)
        if key.resource_type == SUBSCRIPTION and isinstance(resource, dict):
            self._check_subscriber(resource)
        self._tx.put(version, resource)
        self._puts[key] = _Put(key, act, before, version)

    def check_written(self) -> None:
        """Raises `Forbidden` unless all that was put is within reach, as it is now.

        Asked when the decision is made: the parts of a transaction may lead to each other.
        """
        self._check_within()
        self._check_references()

    def _check_new(self, version: Version) -> None:
        """A new resource has an id of the server's, where not all that is there is seen.

        A chosen id would tell by the answer whether somebody else's resource has it.
        """
        if self._reach.is_open("any", version.key.resource_type):
            return
        current = self._tx.read(version.key)
        is_chosen = version.key.resource_id not in self._issued and not self._reach.is_wide(
            version.key.resource_type
        )
        if is_chosen or (current is not None and not current.is_deletion):
            raise NotFound(f"{version.key} is not known")

    def _within(self, act: Permission, key: ResourceKey) -> Version:
        query = restricted(
            self._rules.parameters, self._reach, act, key.resource_type, (key.resource_id,)
        )
        found = self._tx.search(query).versions
        if not found:
            raise Forbidden(f"this {key.resource_type} may not be changed")
        return found[0]

    def _check_subscriber(self, resource: Resource) -> None:
        if not subscriber.is_of(resource, self._reach.principal):
            raise Forbidden("a Subscription is for whoever writes it")

    def _check_within(self) -> None:
        """What was put is held against the scope that it was put by."""
        wanted: dict[tuple[Permission, str], list[ResourceKey]] = {}
        for key, act, _, after in self._puts.values():
            if after.is_deletion or self._reach.is_open(act, key.resource_type):
                continue
            wanted.setdefault((act, key.resource_type), []).append(key)
        for (act, resource_type), keys in wanted.items():
            ids = [key.resource_id for key in keys]
            found: set[ResourceKey] = set()
            for start in range(0, len(ids), _SEARCHED_AT_ONCE):
                some = ids[start : start + _SEARCHED_AT_ONCE]
                query = restricted(self._rules.parameters, self._reach, act, resource_type, some)
                found.update(version.key for version in self._tx.search(query).versions)
            if not found.issuperset(keys):
                raise Forbidden(f"this {resource_type} would be out of the token's reach")

    def _check_references(self) -> None:
        """Nothing new is referred to that is out of reach: it would become theirs, or tell.

        Nor what is not there at all, or the two could be told apart. Who may see everyone may
        refer to what others will write.
        """
        if self._reach.is_of_everyone:
            return
        wanted: dict[str, set[str]] = {}
        for _, _, before, after in self._puts.values():
            if after.is_deletion:
                continue
            known = self._references(before)
            for named in self._references(after) - known:
                if named not in self._puts and self._is_private(named.resource_type):
                    wanted.setdefault(named.resource_type, set()).add(named.resource_id)
        for resource_type, ids in wanted.items():
            if len(self._visible(resource_type, sorted(ids), "near")) < len(ids):
                raise Forbidden(f"the {resource_type} that is referred to is not known")

    def _is_private(self, resource_type: str) -> bool:
        is_known = resource_type in self._rules.parameters.resource_types
        return is_known and not self._reach.is_open("near", resource_type)

    def _references(self, version: Version | None) -> set[ResourceKey]:
        if version is None or version.is_deletion:
            return set()
        return {
            ResourceKey(entry.resource_type, entry.resource_id)
            for entry in self._rules.index(version.resource()).references
            if entry.resource_id
        }

    def _visible(
        self, resource_type: str, ids: Sequence[str], act: Act = "any"
    ) -> dict[ResourceKey, Version]:
        if resource_type not in self._rules.parameters.resource_types:
            return {}
        found: dict[ResourceKey, Version] = {}
        for start in range(0, len(ids), _SEARCHED_AT_ONCE):
            some = ids[start : start + _SEARCHED_AT_ONCE]
            query = restricted(self._rules.parameters, self._reach, act, resource_type, some)
            found |= {version.key: version for version in self._tx.search(query).versions}
        return found


_WORDS = {"c": "create", "u": "update", "d": "delete"}
