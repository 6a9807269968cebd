"""BearerAuthenticator: who asks, by the one bearer token of the request.

https://www.rfc-editor.org/rfc/rfc6750
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from fhir_server.core.security.principal import Principal
from fhir_server.errors import Unauthenticated
from fhir_server.security.own_tokens import Verified
from fhir_server.security.registrations import Registrations, parse_gateway_key
from fhir_server.security.revisions import Revisions
from fhir_server.security.signed_token import LONGEST

Read = Callable[[str], Awaitable[Verified]]

_MOST_KEPT = 10_000
_FOR_EVER = float("inf")


class BearerAuthenticator:
    """A token that was found good is known by its hash, until it ends or until anything about
    who may come in has changed: a revocation is heeded by the next request of every process.
    """

    def __init__(
        self,
        read: Read,
        registrations: Registrations,
        revisions: Revisions,
        now: Callable[[], datetime],
    ) -> None:
        self._read = read
        self._registrations = registrations
        self._revisions = revisions
        self._now = now
        self._known: OrderedDict[bytes, Verified] = OrderedDict()
        self._revision = 0

    async def authenticate(
        self, scope: MutableMapping[str, Any], _headers: Mapping[str, str]
    ) -> Principal:
        """Who asks.

        Raises:
            Unauthenticated: there is no token, or none that is good.
            StoreUnavailable: whether it is cannot be found out now.
        """
        asked: Principal | None = scope.get("principal")
        if asked is not None:
            # The gate has asked before.
            return asked
        token = bearer_token(scope["headers"])
        revision = await self._revisions.current()
        if revision != self._revision:
            self._known.clear()
            self._revision = revision
        name = sha256(token.encode()).digest()
        known = self._known.get(name)
        if known is not None and self._now().timestamp() >= known.until:
            # Over, or only to be asked about again: its issuer says which.
            self._known.pop(name, None)
            known = None
        if known is None:
            known = await self._verify(token)
            # Asked for before the revision that is the newest by now: perhaps by its rules.
            if self._revision == revision:
                self._known[name] = known
                if len(self._known) > _MOST_KEPT:
                    self._known.popitem(last=False)
        return known.principal

    async def _verify(self, token: str) -> Verified:
        key = parse_gateway_key(token)
        if key is None:
            return await self._read(token)
        found = await asyncio.to_thread(self._registrations.gateway_of, key)
        if found is None:
            raise Unauthenticated("the gateway's key is not good")
        gateway, ends = found
        principal = Principal(
            "gateway",
            gateway.name,
            gateway.name,
            token_id=f"{gateway.name}/{gateway.generation}",
            intake=gateway.intake,
        )
        return Verified(principal, _FOR_EVER if ends is None else ends)


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Raises `Unauthenticated`: there is none, or several, or one in another scheme."""
    found = [value for name, value in headers if name == b"authorization"]
    if not found:
        raise Unauthenticated("a bearer token is needed")
    if len(found) > 1 or len(found[0]) > LONGEST + 16:
        raise Unauthenticated("one bearer token is needed")
    scheme, _, token = found[0].decode("latin-1").partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token or not token.isascii() or not token.isprintable():
        raise Unauthenticated("a bearer token is needed")
    return token
