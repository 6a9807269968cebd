"""The connection to a broker: a session that outlives it, and who acknowledges what.

paho-mqtt's own thread reads and writes; messages are handed to the event loop. MQTT 5 only:
without a receive maximum nothing would bound what a broker sends at once.
https://docs.oasis-open.org/mqtt/mqtt/v5.0/mqtt-v5.0.html
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from threading import Lock
from time import monotonic
from typing import Any, NamedTuple

from paho.mqtt.client import (
    Client,
    ConnectFlags,
    DisconnectFlags,
    MQTTMessage,
)
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from fhir_server.intake import metrics
from fhir_server.intake.broker import Broker
from fhir_server.intake.message import Message

_log = logging.getLogger(__name__)

_KEEP_ALIVE_SECONDS = 30
_LONGEST_WAIT_SECONDS = 30
# What is kept of a payload that is too long.
_BEGINNING = 64 * 1024
# A retained message is sent when the subscription is new, not on each connection.
_RETAINED_ONCE = 1

# What the broker says to one whom it does not want: trying again changes nothing.
_UNWANTED = frozenset(
    {"Client identifier not valid", "Bad user name or password", "Not authorized", "Banned"}
    | {"Bad authentication method", "Unsupported protocol version"}
)
_TAKEN_OVER = "Session taken over"
# Connections that each end so soon are taken by somebody; not every broker says so.
_SOON_SECONDS = 5.0
_MANY = 3


class Session(NamedTuple):
    """How the broker knows us again, and how much it may send before it hears from us."""

    client_id: str
    filters: tuple[str, ...]
    expiry_seconds: int
    receive_maximum: int
    payload_bytes: int


class Connection:
    """One session of one broker. All but `acknowledge` is for the event loop's thread."""

    def __init__(
        self,
        broker: Broker,
        session: Session,
        now: Callable[[], datetime],
        arrived: Callable[[Message], None],
        failed: Callable[[str], None],
    ) -> None:
        self._broker = broker
        self._session = session
        self._now = now
        self._arrived = arrived
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._number = 0
        self._was_connected = False
        self._connected_at = 0.0
        self._short_lived = 0
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            session.client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            manual_ack=True,
        )
        if broker.user:
            client.username_pw_set(broker.user, broker.password or None)
        if broker.tls is not None:
            client.tls_set_context(broker.tls)
        client.reconnect_delay_set(1, _LONGEST_WAIT_SECONDS)
        client.on_connect = self._on_connect
        client.on_connect_fail = self._on_connect_fail
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message

    def open(self) -> None:
        """Begin to connect, and to connect again whenever it is lost."""
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = self._session.expiry_seconds
        properties.ReceiveMaximum = self._session.receive_maximum
        self._client.connect_async(
            self._broker.host,
            self._broker.port,
            _KEEP_ALIVE_SECONDS,
            clean_start=False,
            properties=properties,
        )
        self._client.loop_start()

    def acknowledge(self, messages: Sequence[Message]) -> int:
        """Tell the broker that it may forget them, in their order; how many were told.

        A packet identifier belongs to the connection it came by: after a reconnect the
        broker may have given it to another message, which nobody has stored yet. What came
        before is sent again, and is then a duplicate.
        """
        told = 0
        with self._lock:
            for message in messages:
                if message.mid and message.session == self._number:
                    self._client.ack(message.mid, 1)
                    told += 1
        return told

    async def close(self) -> None:
        """Part from the broker, which keeps the session and what was not acknowledged."""
        self._client.disconnect()
        # It joins the thread, which may be inside a handshake.
        await asyncio.to_thread(self._client.loop_stop)
        metrics.connected.set(0)

    def _on_connect(
        self,
        client: Client,
        _data: Any,
        flags: ConnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            name = reason.getName()
            _log.warning("%r refused the connection: %s", self._broker, name)
            if not self._was_connected and name in _UNWANTED:
                self._tell(f"{self._broker!r} refused the connection: {name}")
            return
        with self._lock:
            self._number += 1
        if self._was_connected and not flags.session_present:
            _log.warning("%r has forgotten the session: is its persistence on?", self._broker)
        self._was_connected = True
        self._connected_at = monotonic()
        metrics.connected.set(1)
        metrics.connections.inc()
        _log.info("connected to %r as %s", self._broker, self._session.client_id)
        options = SubscribeOptions(qos=1, retainHandling=_RETAINED_ONCE)
        client.subscribe([(topic, options) for topic in self._session.filters])

    def _on_connect_fail(self, _client: Client, _data: Any) -> None:
        # Called while the reason is being handled, which it is not given.
        error = sys.exc_info()[1]
        reason = getattr(error, "strerror", None) or type(error).__name__
        _log.warning("no connection to %r: %s", self._broker, reason)

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        flags: DisconnectFlags,
        reason: ReasonCode,
        _properties: Properties | None,
    ) -> None:
        # Before the next CONNECT: what is acknowledged from here on goes nowhere.
        with self._lock:
            self._number += 1
        metrics.connected.set(0)
        name = reason.getName()
        if reason.is_failure:
            _log.warning("the connection to %r ended: %s", self._broker, name)
        if flags.is_disconnect_packet_from_server and name == _TAKEN_OVER:
            # Two would take it from each other for ever.
            self._tell(f"another listener has come as {self._session.client_id}")
        self._notice_short_life(reason)

    def _notice_short_life(self, reason: ReasonCode) -> None:
        is_short = reason.is_failure and monotonic() - self._connected_at < _SOON_SECONDS
        self._short_lived = self._short_lived + 1 if is_short else 0
        if self._short_lived == _MANY:
            name = self._session.client_id
            _log.error("%d short connections: does another listener come as %s?", _MANY, name)
            self._short_lived = 0

    def _on_subscribe(
        self,
        _client: Client,
        _data: Any,
        _mid: int,
        reasons: list[ReasonCode],
        _properties: Properties | None,
    ) -> None:
        for topic, reason in zip(self._session.filters, reasons, strict=False):
            if reason.is_failure:
                self._tell(f"{self._broker!r} refused {topic}: {reason.getName()}")
            elif reason.value < 1:
                self._tell(f"{self._broker!r} gives {topic} with QoS 0 only")

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        payload = bytes(message.payload)
        properties = getattr(message.properties, "UserProperty", ())
        is_long = len(payload) > self._session.payload_bytes
        arrived = Message(
            _topic(message),
            payload[:_BEGINNING] if is_long else payload,
            len(payload),
            tuple((name, value) for name, value in properties),
            self._now(),
            message.mid if message.qos else 0,
            self._number,
        )
        self._loop.call_soon_threadsafe(self._arrived, arrived)

    def _tell(self, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._failed, reason)


def _topic(message: MQTTMessage) -> str:
    try:
        return message.topic
    except UnicodeDecodeError:
        # No route fits it: it is held back as what it is.
        return ""
