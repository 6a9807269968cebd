"""Which subscriptions a committed version is an event of: the subscriptions' part of fan-out."""

import logging
from collections.abc import Callable, Iterable, Sequence

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.match import Indexed, Resolve
from fhir_server.core.subscription import Status, Subscription
from fhir_server.core.subscription_topic import Change
from fhir_server.core.version import Version
from fhir_server.errors import StoreUnavailable
from fhir_server.outbox.subscription_book import FOLLOWED, RESOURCE_TYPE, SubscriptionBook
from fhir_server.outbox.telling import Visible, everything
from fhir_server.store.protocol import Outbox, Routed

HANDSHAKE = "/handshake"

_log = logging.getLogger(__name__)

# How far chained criteria may look, in steps and in resources.
_MOST_STEPS = 4
_MOST_RESOURCES = 500


class SubscriptionRoute:
    """Routes versions; one thread at a time."""

    def __init__(
        self,
        book: SubscriptionBook,
        outbox: Outbox,
        index: Callable[[Resource], IndexEntries],
        visible: Visible = everything,
    ) -> None:
        self._visible = visible
        self._book = book
        self._outbox = outbox
        self._index = index

    def __call__(self, version: Version) -> Sequence[Routed]:
        """The events that `version` is; of a requested Subscription, its handshake.

        Raises:
            StoreUnavailable: what it depends on cannot be read.
        """
        if version.sequence > self._book.seen:
            # Another process may have fanned out the Subscriptions before this version.
            self._book.catch_up()
        if version.key.resource_type in FOLLOWED:
            self._book.apply(version)
        if version.key.resource_type == RESOURCE_TYPE:
            state = self._book.at(version.key, version.sequence)
            if state is not None and state.status is Status.REQUESTED:
                return [Routed(f"{version.key}{HANDSHAKE}", "handshake")]
            return ()
        if not self._book.may_want(version.key.resource_type, version.sequence):
            return ()
        change = self._change(version)
        subject = change.subject
        if subject is None:
            return ()
        referred = {entry.resource_id for entry in subject.entries.references}
        resolve = _Reachable(self._outbox, self._indexed, subject)
        return [
            Routed(subscription.sink, "events")
            for subscription in self._book.listening(
                version.key.resource_type, referred, version.sequence
            )
            if self._is_event(subscription, change, resolve)
        ]

    def _is_event(self, subscription: Subscription, change: Change, resolve: Resolve) -> bool:
        """Whether it is wanted, and within the subscriber's reach, what it leads to included."""
        state = self._book.at(subscription.key, change.version.sequence)
        if state is None:
            return False
        asking = state.version

        def resolve_visible(resource_type: str) -> Iterable[Indexed]:
            found = {indexed.version: indexed for indexed in resolve(resource_type)}
            return [found[version] for version in self._visible(asking, tuple(found))]

        # Asked first whether it is wanted: most are not, and that costs no look-up.
        return _is_wanted(subscription, change, resolve_visible) and bool(
            self._visible(asking, (change.version,))
        )

    def _change(self, version: Version) -> Change:
        previous = None
        if version.version_id > 1:
            before = self._outbox.read(version.key, version.version_id - 1)
            previous = None if before is None else self._indexed(before)
        return Change(version, self._indexed(version), previous)

    def _indexed(self, version: Version) -> Indexed | None:
        if version.is_deletion:
            return None
        return Indexed(self._index(version.resource()), version)


def _is_wanted(subscription: Subscription, change: Change, resolve: Resolve) -> bool:
    try:
        return subscription.wants(change, resolve)
    except StoreUnavailable:
        raise
    except Exception as error:  # one subscription must not stop the others'
        _log.error(
            "a subscription could not be evaluated",
            extra={
                "sink": subscription.sink,
                "key": str(change.version.key),
                "error": type(error).__qualname__,
            },
        )
        return False


class _Reachable:
    """Resolves a chain: the resources of a type that the matched one leads to.

    They are read when the first chain asks, in their current state.
    """

    def __init__(
        self,
        outbox: Outbox,
        indexed: Callable[[Version], Indexed | None],
        start: Indexed,
    ) -> None:
        self._outbox = outbox
        self._indexed = indexed
        self._start = start
        self._found: dict[str, list[Indexed]] | None = None

    def __call__(self, resource_type: str) -> Iterable[Indexed]:
        if self._found is None:
            self._found = self._look()
        return self._found.get(resource_type, ())

    def _look(self) -> dict[str, list[Indexed]]:
        found: dict[str, list[Indexed]] = {}
        seen: set[ResourceKey] = set()
        step = [self._start]
        for _ in range(_MOST_STEPS):
            following: list[Indexed] = []
            for indexed in step:
                for entry in indexed.entries.references:
                    key = ResourceKey(entry.resource_type, entry.resource_id)
                    if not key.resource_type or key in seen or len(seen) >= _MOST_RESOURCES:
                        continue
                    seen.add(key)
                    version = self._outbox.read(key)
                    target = None if version is None else self._indexed(version)
                    if target is not None:
                        found.setdefault(key.resource_type, []).append(target)
                        following.append(target)
            step = following
        return found
