"""What of a Subscription a client may store: refused at creation, not silently never sent."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.subscription import Status
from fhir_server.core.subscription_topic_basic import is_topic
from fhir_server.errors import InvalidResource, Issue
from fhir_server.outbox.endpoint import EndpointError, OutboundPolicy, check_url
from fhir_server.outbox.subscription_book import RESOURCE_TYPE
from fhir_server.outbox.subscription_topics import LiveReader


class _Validator(Protocol):
    @property
    def resource_types(self) -> frozenset[str]: ...

    def check(self, resource: Resource) -> tuple[Issue, ...]: ...


class SubscriptionChecks:
    """A validator that adds what this server can do for a Subscription to another's rules."""

    def __init__(
        self,
        validator: _Validator,
        reader: LiveReader,
        policy: OutboundPolicy,
        now: Callable[[], datetime],
    ) -> None:
        self._validator = validator
        self._reader = reader
        self._policy = policy
        self._now = now

    @property
    def resource_types(self) -> frozenset[str]:
        return self._validator.resource_types

    def check(self, resource: Resource) -> tuple[Issue, ...]:
        """All faults; of a Subscription, or a topic, also what cannot be done for it."""
        issues = self._validator.check(resource)
        is_broken = any(issue.severity in ("error", "fatal") for issue in issues)
        if not is_broken and is_topic(resource):
            key = ResourceKey("Basic", resource.get("id", ""))
            return (*issues, *self._reader.check_topic(key, resource, self._now()))
        if resource.get("resourceType") != RESOURCE_TYPE or is_broken:
            return issues
        return (*issues, *self._check(resource))

    def _check(self, resource: Resource) -> tuple[Issue, ...]:
        key = ResourceKey(RESOURCE_TYPE, resource.get("id", ""))
        try:
            found = self._reader.parse(key, 0, resource, self._now())
        except InvalidResource as refused:
            return refused.issues
        if found.status not in (Status.REQUESTED, Status.OFF):
            # https://hl7.org/fhir/R4/subscription-definitions.html#Subscription.status
            return (
                Issue(
                    "business-rule",
                    "a client asks with requested or off; active and error are the server's words",
                    "Subscription.status",
                ),
            )
        if not found.is_pushed:
            return ()
        try:
            check_url(found.channel.endpoint, self._policy)
        except EndpointError as error:
            return (Issue("value", str(error), "Subscription.channel.endpoint"),)
        return ()
