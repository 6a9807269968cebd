"""Subscriptions: what one asks for, understood; `subscription_reader` reads it.

https://hl7.org/fhir/R4/subscription.html
https://hl7.org/fhir/uv/subscriptions-backport/
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.match import Resolve, matches
from fhir_server.core.search.query import Clause, Criterion, ReferenceValue
from fhir_server.core.subscription_topic import Change, Trigger

JSON_TYPES = frozenset({"application/fhir+json", "application/json"})
XML_TYPES = frozenset({"application/fhir+xml", "application/xml"})
DEFAULT_EVENTS = 20
LONGEST_TIMEOUT = 30


class Status(StrEnum):
    """`Subscription.status`."""

    REQUESTED = "requested"
    ACTIVE = "active"
    ERROR = "error"
    OFF = "off"


class Content(StrEnum):
    """How much of a resource a notification tells."""

    EMPTY = "empty"
    ID_ONLY = "id-only"
    FULL_RESOURCE = "full-resource"


class ChannelType(StrEnum):
    """`Subscription.channel.type`, as far as it can be served."""

    REST_HOOK = "rest-hook"
    WEBSOCKET = "websocket"
    MESSAGE = "message"


@dataclass(frozen=True, slots=True)
class Channel:
    """Where notifications go and how. A websocket has no endpoint: its client comes to us.

    `media_type` is "" where R4's notification has no body. `content` None is R4's own
    notification: the resource itself; otherwise a Bundle says it. `headers` hold secrets.
    """

    endpoint: str
    media_type: str
    content: Content | None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    heartbeat_seconds: int | None = None
    timeout_seconds: int | None = None
    max_count: int = DEFAULT_EVENTS
    type: ChannelType = ChannelType.REST_HOOK


@dataclass(frozen=True, slots=True)
class Subscription:
    """One version of a Subscription, understood. `topic` is "" where criteria say it all."""

    key: ResourceKey
    version_id: int
    status: Status
    end: datetime | None
    topic: str
    triggers: tuple[Trigger, ...]
    filters: Mapping[str, tuple[Criterion, ...]]
    channel: Channel

    @property
    def sink(self) -> str:
        """The ledger's word for it."""
        return str(self.key)

    @property
    def is_pushed(self) -> bool:
        """Whether the server calls the subscriber, who need not come for it."""
        return self.channel.type is not ChannelType.WEBSOCKET

    @property
    def resource_types(self) -> frozenset[str]:
        return frozenset(trigger.resource_type for trigger in self.triggers)

    def is_over(self, when: datetime) -> bool:
        return self.end is not None and when >= self.end

    def wants(self, change: Change, resolve: Resolve) -> bool:
        """Whether `change` is to be told."""
        subject = change.subject
        return (
            subject is not None
            and not self.is_over(change.version.last_updated)
            and any(trigger.is_pulled(change, resolve) for trigger in self.triggers)
            and matches(*subject, self.filters.get(change.version.key.resource_type, ()), resolve)
        )

    def referred_ids(self) -> frozenset[str] | None:
        """Ids of which a resource must refer to one to be wanted; None where there is no such rule.

        Thousands of subscriptions differ in the patient alone: by these few are looked at.
        """
        found: set[str] = set()
        for trigger in self.triggers:
            is_of_current = trigger.current is not None and (
                trigger.is_both or trigger.previous is None
            )
            criteria = (trigger.current or ()) if is_of_current else ()
            if "delete" in trigger.interactions:
                criteria = ()
            ids = _referred((*self.filters.get(trigger.resource_type, ()), *criteria))
            if ids is None:
                return None
            found |= ids
        return frozenset(found)


def _referred(criteria: Sequence[Criterion]) -> frozenset[str] | None:
    for criterion in criteria:
        if isinstance(criterion, Clause) and not criterion.modifier:
            ids = [
                value.resource_id if isinstance(value, ReferenceValue) else None
                for value in criterion.values
            ]
            known = frozenset(each for each in ids if each is not None)
            if known and None not in ids:
                return known
    return None
