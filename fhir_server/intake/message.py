"""A message of a broker: what it carries, and what is known beside the payload.

User properties of MQTT 5 say what the headers of `POST /readings` say: `device`, `patient`
(`system|value`), `gateway-time`, `gateway-id`. They win over the topic.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from fhir_server.core.mapping.gateway import parse_gateway_id, parse_sent, parse_token
from fhir_server.core.mapping.reading import Fault, Gateway, IdentifierToken, QuarantineReason
from fhir_server.errors import InvalidRequest
from fhir_server.intake.topic import Hints, TopicRoute

_MAPPING = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
# The name that a payload is held back under when it has no mapping.
UNROUTED = "unrouted"


class Message(NamedTuple):
    """As it came. `mid` is 0 for QoS 0; `session` numbers the connection it came by.

    `length` is the payload's, of which `payload` is the beginning where it was too long.
    """

    topic: str
    payload: bytes
    length: int
    properties: tuple[tuple[str, str], ...]
    received: datetime
    mid: int
    session: int


class Sender(NamedTuple):
    """What payloads have in common that are decided together."""

    mapping: str
    device: IdentifierToken | None = None
    patient: IdentifierToken | None = None
    sent: datetime | None = None
    gateway_id: str = ""

    def gateway(self, received: datetime) -> Gateway:
        return Gateway(received, self.device, self.patient, self.sent, self.gateway_id)


class Routed(NamedTuple):
    """Who sent a message; a fault if it cannot be read for what is said beside it."""

    sender: Sender
    fault: Fault | None = None


def route(message: Message, routes: Sequence[TopicRoute]) -> Routed:
    """By the first route that the topic fits.

    A session outlives the settings: a topic that fits none is one that was subscribed to
    before.
    """
    for candidate in routes:
        hints = candidate.match(message.topic)
        if hints is not None:
            break
    else:
        return Routed(Sender(UNROUTED))
    mapping = hints.mapping if _MAPPING.match(hints.mapping) else UNROUTED
    try:
        sender = _sender(mapping, hints, candidate.device_system, dict(message.properties))
    except InvalidRequest as error:
        return Routed(Sender(mapping), Fault(QuarantineReason.MALFORMED, str(error)))
    if len(message.payload) < message.length:
        detail = f"{message.length} bytes are too many; the beginning is kept"
        return Routed(sender, Fault(QuarantineReason.MALFORMED, detail))
    return Routed(sender)


def _sender(mapping: str, hints: Hints, system: str, said: dict[str, str]) -> Sender:
    sent = said.get("gateway-time")
    return Sender(
        mapping,
        _token(said.get("device"), hints.device, "device", system),
        _token(said.get("patient"), hints.patient, "patient", ""),
        None if sent is None else parse_sent(sent, "gateway-time"),
        parse_gateway_id(said.get("gateway-id", hints.gateway).strip(), "gateway-id"),
    )


def _token(said: str | None, level: str, name: str, system: str) -> IdentifierToken | None:
    text = level if said is None else said
    if not text:
        return None
    token = parse_token(text, name)
    return token._replace(system=system) if token.system is None and system else token
