"""Which Subscriptions listen, at any point of the commit order: followed by the change feed.

A version is matched with what every Subscription asked for when that version was
committed, whichever process looks at it and however late.
"""

import logging
from collections.abc import Iterable
from datetime import datetime
from threading import Lock
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.subscription import Status, Subscription
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.core.subscription_topic_basic import RESOURCE_TYPE as TOPIC_TYPE
from fhir_server.core.version import Version
from fhir_server.errors import FhirError
from fhir_server.outbox.subscription_topics import Topics
from fhir_server.store.protocol import Outbox

RESOURCE_TYPE = "Subscription"
FOLLOWED = (RESOURCE_TYPE, TOPIC_TYPE)
"""What decides who listens."""

_log = logging.getLogger(__name__)


class State(NamedTuple):
    """What a Subscription was from `sequence` on.

    `is_verified`: the endpoint has agreed to what is asked for now. `subscription` is None
    where it is off, deleted or not to be understood: then `is_broken`. `version` is its own,
    which is older where a topic made this state.
    """

    sequence: int
    status: Status
    is_verified: bool
    subscription: Subscription | None
    version: Version
    is_broken: bool = False

    @property
    def is_listening(self) -> bool:
        """Whether changes become events of it.

        They do from the request on, so that none is missed while the endpoint is asked,
        and while it is in trouble.
        """
        if self.subscription is None:
            return False
        return self.status in (Status.REQUESTED, Status.ACTIVE) or (
            self.status is Status.ERROR and self.is_verified
        )

    @property
    def is_sent_to(self) -> bool:
        return self.is_listening and self.is_verified


class SubscriptionBook:
    """Safe from any thread. It knows nothing before the first `catch_up`."""

    def __init__(self, outbox: Outbox, reader: SubscriptionReader) -> None:
        self._outbox = outbox
        self._topics = Topics(reader)
        self._topics_seen: dict[ResourceKey, int] = {}
        # By a topic's URL: who has it, or would.
        self._users: dict[str, set[ResourceKey]] = {}
        self._lock = Lock()
        self._seen = 0
        self._states: dict[ResourceKey, list[State]] = {}
        # By type, then by the ids of which one must be referred to; None is every resource.
        self._by_type: dict[str, dict[str | None, set[ResourceKey]]] = {}
        self._listed: dict[ResourceKey, set[tuple[str, str | None]]] = {}
        self._superseded: set[ResourceKey] = set()
        self._since: dict[str, int] = {}
        self._begin: int | None = None

    @property
    def is_used(self) -> bool:
        """Whether there ever was a Subscription."""
        return bool(self._states)

    @property
    def begin(self) -> int | None:
        """The sequence before the first Subscription: up to it nothing is an event."""
        return self._begin

    @property
    def seen(self) -> int:
        """The sequence up to which all Subscriptions are known."""
        return self._seen

    def catch_up(self) -> bool:
        """Read the Subscriptions written since; whether there ever was one.

        Raises:
            StoreUnavailable: they cannot be read.
        """
        newest, versions = self._outbox.changes(self._seen, FOLLOWED)
        for version in versions:
            self.apply(version)
        self._seen = max(self._seen, newest)
        return self.is_used

    def apply(self, version: Version) -> None:
        """Take a version of a Subscription or a topic in; again is harmless."""
        with self._lock:
            if version.key.resource_type == TOPIC_TYPE:
                self._apply_topic(version)
                return
            if self._begin is None:
                self._begin = version.sequence - 1
            states = self._states.setdefault(version.key, [])
            if not states or states[-1].sequence < version.sequence:
                self._append(version, version.sequence)

    def _apply_topic(self, version: Version) -> None:
        if self._topics_seen.get(version.key, 0) >= version.sequence:
            return
        changed = self._topics.apply(version)
        if changed:
            self._topics_seen[version.key] = version.sequence
        for url in changed:
            for key in sorted(self._users.get(url, ())):
                self._append(self._states[key][-1].version, version.sequence)

    def _append(self, version: Version, sequence: int) -> None:
        """What `version` of a Subscription asks for is so from `sequence` on."""
        states = self._states[version.key]
        state = self._read(version, sequence, states[-1] if states else None)
        states.append(state)
        if len(states) > 1 or state.subscription is None:
            self._superseded.add(version.key)
        if state.subscription is not None:
            ids = state.subscription.referred_ids()
            for resource_type in state.subscription.resource_types:
                self._since.setdefault(resource_type, sequence)
                for each in (None,) if ids is None else ids:
                    self._list(version.key, resource_type, each)

    def may_want(self, resource_type: str, sequence: int) -> bool:
        """Whether some Subscription may want such a resource, committed as `sequence`.

        All that was committed before the first Subscription is passed over at the price
        of this question.
        """
        since = self._since.get(resource_type)
        return since is not None and since <= sequence and resource_type in self._by_type

    def listening(
        self, resource_type: str, referred: Iterable[str], sequence: int
    ) -> tuple[Subscription, ...]:
        """Who may want a resource that refers to these ids, committed as `sequence`."""
        with self._lock:
            by_id = self._by_type.get(resource_type, {})
            keys = set(by_id.get(None, ()))
            for each in referred:
                keys |= by_id.get(each, set())
            found = (self._at(key, sequence) for key in sorted(keys))
            return tuple(
                state.subscription
                for state in found
                if state is not None and state.is_listening and state.subscription is not None
            )

    def forget(self, before: int) -> None:
        """Drop what no version from `before` on can be matched with."""
        with self._lock:
            for key in tuple(self._superseded):
                states = self._states[key]
                while len(states) > 1 and states[1].sequence < before:
                    del states[0]
                if len(states) == 1 and states[0].sequence < before:
                    self._superseded.discard(key)
                    if states[0].subscription is None:
                        self._unlist(key)

    def at(self, key: ResourceKey, sequence: int) -> State | None:
        """What one Subscription was when `sequence` was committed."""
        with self._lock:
            return self._at(key, sequence) if key in self._states else None

    def now(self, key: ResourceKey) -> State | None:
        """The newest state of one Subscription; None for what is not known."""
        with self._lock:
            states = self._states.get(key)
            return states[-1] if states else None

    def current(self) -> tuple[tuple[ResourceKey, State], ...]:
        """The newest state of each."""
        with self._lock:
            return tuple((key, states[-1]) for key, states in self._states.items())

    def ended(self, when: datetime) -> tuple[ResourceKey, ...]:
        """Those whose end has come and that are not off yet."""
        return tuple(
            key
            for key, state in self.current()
            if state.subscription is not None and state.subscription.is_over(when)
        )

    def in_trouble(self, before: datetime) -> tuple[ResourceKey, ...]:
        """Those that collect events, but have been in error since before that."""
        return tuple(
            key
            for key, state in self.current()
            if state.status is Status.ERROR
            and state.is_listening
            and state.version.last_updated < before
        )

    def broken(self) -> tuple[ResourceKey, ...]:
        """Those that say they are active, and cannot be evaluated any more."""
        return tuple(
            key
            for key, state in self.current()
            if state.is_broken and state.version.resource().get("status") == Status.ACTIVE
        )

    def _at(self, key: ResourceKey, sequence: int) -> State | None:
        states = self._states[key]
        return next((state for state in reversed(states) if state.sequence <= sequence), None)

    def _list(self, key: ResourceKey, resource_type: str, referred: str | None) -> None:
        self._by_type.setdefault(resource_type, {}).setdefault(referred, set()).add(key)
        self._listed.setdefault(key, set()).add((resource_type, referred))

    def _unlist(self, key: ResourceKey) -> None:
        for resource_type, referred in self._listed.pop(key, ()):
            by_id = self._by_type[resource_type]
            by_id[referred].discard(key)
            if not by_id[referred]:
                del by_id[referred]
            if not by_id:
                del self._by_type[resource_type]

    def _read(self, version: Version, sequence: int, before: State | None) -> State:
        if version.is_deletion:
            return State(sequence, Status.OFF, False, None, version)
        criteria = version.resource().get("criteria")
        if isinstance(criteria, str) and "://" in criteria:
            self._users.setdefault(criteria, set()).add(version.key)
        try:
            subscription = self._topics.reader.read(version)
        except FhirError:
            # Stored before a rule was, or where validation only warns.
            _log.warning(
                "a Subscription cannot be evaluated",
                extra={"key": str(version.key), "version_id": version.version_id},
            )
            return State(sequence, Status.ERROR, False, None, version, is_broken=True)
        status = subscription.status
        is_verified = status is Status.ACTIVE or (
            status is Status.ERROR and before is not None and before.is_verified
        )
        is_off = status is Status.OFF
        return State(sequence, status, is_verified, None if is_off else subscription, version)
