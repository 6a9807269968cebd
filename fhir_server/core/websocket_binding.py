"""What a websocket's client says, and the tokens it binds Subscriptions by.

R4: `bind <id>`. The backport: `bind-with-token <token>`, also as a JSON object that names
the type and has the token in its payload.
https://hl7.org/fhir/R4/subscription.html#2.46.7.2
https://hl7.org/fhir/uv/subscriptions-backport/channels.html#websockets
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fhir_server.core.identity import is_resource_id

MOST_SUBSCRIPTIONS = 100
"""What one token may name."""

PATH = "/websocket"
"""Below the base of FHIR."""

_BIND = re.compile(r"bind:?\s+(\S+)\s*\Z")
_WITH_TOKEN = re.compile(r"bind-with-token:?\s+(\S+)\s*\Z")
_CONTEXT = b"websocket-binding"


class Bind(NamedTuple):
    """A Subscription by its id, R4's way, which proves nothing."""

    resource_id: str


class BindWithToken(NamedTuple):
    """Those that the token names."""

    token: str


def websocket_url(base_url: str) -> str:
    """Where the websocket of the server at `base_url` is."""
    return f"ws{base_url.removeprefix('http')}{PATH}"


def parse(text: str) -> Bind | BindWithToken | None:
    """What the client asks for; None if it is nothing known."""
    if text.lstrip().startswith("{"):
        try:
            said = json.loads(text)
            token = said["payload"]["token"]
            is_binding = said["type"] == "bind-with-token" and isinstance(token, str)
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return BindWithToken(token) if is_binding else None
    if found := _WITH_TOKEN.match(text):
        return BindWithToken(found[1])
    found = _BIND.match(text)
    return Bind(found[1]) if found and is_resource_id(found[1]) else None


def seal(ids: Sequence[str], until: datetime, key: bytes) -> str:
    """A token for these Subscriptions, good until then in every process that has the key."""
    milliseconds = (until - _EPOCH) // timedelta(milliseconds=1)
    content = _encode(json.dumps([milliseconds, *ids]).encode())
    return f"{content}.{_encode(_sign(content, key))}"


def unseal(token: str, now: datetime, key: bytes) -> tuple[str, ...] | None:
    """The Subscriptions that a token names; None if it is not ours or its time is over."""
    if not token.isascii():
        return None
    content, _, signature = token.partition(".")
    if not hmac.compare_digest(_encode(_sign(content, key)).encode(), signature.encode()):
        return None
    until, *ids = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
    return tuple(ids) if now < _EPOCH + timedelta(milliseconds=until) else None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _sign(content: str, key: bytes) -> bytes:
    own = hmac.digest(key, _CONTEXT, hashlib.sha256)
    return hmac.digest(own, content.encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
