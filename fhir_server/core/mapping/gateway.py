"""What a gateway says beside a payload, from the texts it says it in."""

from datetime import datetime

from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.errors import InvalidRequest

_LONGEST_ID = 200


def parse_token(text: str, name: str) -> IdentifierToken:
    """``system|value``, or a value of whatever system; `name` is for the message.

    Raises:
        InvalidRequest: it is neither.
    """
    system, bar, value = text.strip().partition("|")
    if not bar:
        system, value = "", system
    if not value or not value.isprintable() or not system.isprintable() or " " in system:
        raise InvalidRequest(f"{name} is system|value")
    return IdentifierToken(system or None, value)


def parse_gateway_id(text: str, name: str) -> str:
    """Raises `InvalidRequest`: it is no name."""
    if not text.isprintable() or len(text) > _LONGEST_ID:
        raise InvalidRequest(f"{name} is a name of up to {_LONGEST_ID} characters")
    return text


def parse_sent(text: str, name: str) -> datetime:
    """The gateway's clock on sending, aware.

    Raises:
        InvalidRequest: it is no time, or has no offset.
    """
    try:
        sent = datetime.fromisoformat(text.strip().upper())
    except ValueError:
        sent = None
    if sent is None or sent.tzinfo is None:
        raise InvalidRequest(f"{name} is an RFC 3339 time with its offset")
    return sent
