"""The channels over HTTP, rest-hook and message: R4's own notifications and the backport's.

https://hl7.org/fhir/R4/subscription.html#2.46.7
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime

from adapters.rest_hook.client import RestHookClient
from fhir_server.core import notification_message, resource_json
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.notification import Event, Kind, Standing, notification
from fhir_server.core.notification_text import encode
from fhir_server.core.subscription import ChannelType, Content, Subscription
from fhir_server.errors import DeliveryDeferred, DeliveryRejected, FhirError, NotAcceptable
from fhir_server.outbox.endpoint import OutboundPolicy

FHIR_JSON = "application/fhir+json"


class RestHook:
    """A `NotificationChannel` over HTTP."""

    def __init__(
        self, policy: OutboundPolicy, element_types: ElementTypes, now: Callable[[], datetime]
    ) -> None:
        self._client = RestHookClient(policy)
        self._element_types = element_types
        self._now = now

    def handshake(self, subscription: Subscription, standing: Standing) -> str:
        """A handshake Bundle; R4's own notifications have none."""
        if subscription.channel.content is None:
            return "R4 has no handshake"
        return self._post(subscription, Kind.HANDSHAKE, standing, (), "")

    def heartbeat(self, subscription: Subscription, standing: Standing) -> str:
        if subscription.channel.content is None:
            return "R4 has no heartbeat"
        return self._post(subscription, Kind.HEARTBEAT, standing, (), "")

    def notify(
        self,
        subscription: Subscription,
        standing: Standing,
        events: Sequence[Event],
        idempotency_key: str,
    ) -> str:
        """A Bundle of the events; of R4's own, one request for each."""
        if subscription.channel.content is not None:
            return self._post(subscription, Kind.EVENT, standing, events, idempotency_key)
        tell = self._tell
        if subscription.channel.type is ChannelType.MESSAGE:
            tell = self._tell_by_message
        receipts = [tell(subscription, standing, event, idempotency_key) for event in events]
        return "; ".join(receipts)

    def close(self) -> None:
        self._client.close()

    def _post(
        self,
        subscription: Subscription,
        kind: Kind,
        standing: Standing,
        events: Sequence[Event],
        idempotency_key: str,
    ) -> str:
        content = subscription.channel.content or Content.EMPTY
        bundle = notification(kind, standing, events, content, self._now())
        if subscription.channel.type is ChannelType.MESSAGE:
            bundle = notification_message.of_bundle(subscription, standing, bundle, self._now())
        body = self._encode(subscription, resource_json.format(bundle))
        return self._send(subscription, "POST", "", body, idempotency_key)

    def _tell_by_message(
        self, subscription: Subscription, standing: Standing, event: Event, idempotency_key: str
    ) -> str:
        message = notification_message.of_event(subscription, standing, event, self._now())
        body = self._encode(subscription, resource_json.format(message))
        return self._send(subscription, "POST", "", body, idempotency_key)

    def _tell(
        self, subscription: Subscription, standing: Standing, event: Event, idempotency_key: str
    ) -> str:
        """R4: the resource is put to the endpoint, or the endpoint is called with nothing."""
        version = event.version
        if not subscription.channel.media_type or version.body is None:
            return self._send(subscription, "POST", "", b"", idempotency_key)
        body = self._encode(subscription, version.body)
        return self._send(subscription, "PUT", str(version.key), body, idempotency_key)

    def _send(
        self, subscription: Subscription, method: str, path: str, body: bytes, idempotency_key: str
    ) -> str:
        channel = subscription.channel
        headers = {"Accept": "*/*"}
        for name, value in channel.headers:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        if body:
            headers["Content-Type"] = _with_charset(channel.media_type or FHIR_JSON)
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        answer = self._client.send(
            subscription.sink,
            method,
            channel.endpoint,
            path,
            headers,
            body,
            channel.timeout_seconds,
        )
        if channel.type is ChannelType.MESSAGE:
            _check_response(answer.body)
        return f"{answer.status} sha256:{hashlib.sha256(body).hexdigest()}"

    def _encode(self, subscription: Subscription, body: bytes) -> bytes:
        try:
            return encode(subscription.channel.media_type, body, self._element_types)
        except NotAcceptable:
            raise DeliveryRejected("the resource cannot be said in XML") from None


def _check_response(body: bytes) -> None:
    """What the answer to a message says of it, if it is a message too.

    Raises:
        DeliveryDeferred, DeliveryRejected: it was not processed.
    """
    try:
        entries = resource_json.parse_resource(body).get("entry") or [{}]
        code = entries[0].get("resource", {}).get("response", {}).get("code")
    except (FhirError, AttributeError, KeyError, TypeError):
        return  # an answer in words, or none: the status has said it
    if code == "transient-error":
        raise DeliveryDeferred("the receiver answered transient-error")
    if code == "fatal-error":
        raise DeliveryRejected("the receiver answered fatal-error")


def _with_charset(media_type: str) -> str:
    return media_type if "charset" in media_type else f"{media_type}; charset=utf-8"
