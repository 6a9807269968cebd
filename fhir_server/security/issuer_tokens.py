"""Tokens of another authorization server: signed ones read by its keys, any by asking it.

https://www.rfc-editor.org/rfc/rfc9068 https://www.rfc-editor.org/rfc/rfc7662
"""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any

from fhir_server.core.security import claims as token_claims
from fhir_server.core.security.claims import LEEWAY_SECONDS
from fhir_server.core.security.principal import Principal
from fhir_server.errors import StoreUnavailable, Unauthenticated
from fhir_server.security.own_tokens import Verified
from fhir_server.security.remote_keys import RemoteKeys
from fhir_server.security.signed_token import LONGEST, read_header

ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512",
)  # fmt: skip
"""Those with a key pair, and no other: who can check a token must not be able to make one."""

Ask = Callable[[Mapping[str, str]], bytes]
"""Sends a form to the introspection endpoint. It waits. Raises `StoreUnavailable`."""

OPERATOR = "operator"
"""The scope, and the role, of those who look after the server."""

_TYPES = ("", "jwt", "at+jwt", "application/at+jwt")
# A token that its issuer takes back is good for so long at the most.
_ASKED_AGAIN_SECONDS = 5.0


class IssuerTokens:
    """Signed tokens of `issuer` for one of `audiences`."""

    def __init__(
        self,
        issuer: str,
        audiences: Collection[str],
        keys: RemoteKeys,
        now: Callable[[], datetime],
    ) -> None:
        self._issuer = issuer
        self._audiences = frozenset(audiences)
        self._keys = keys
        self._now = now

    async def read(self, token: str) -> Verified:
        """Raises `Unauthenticated`; `StoreUnavailable` while there are no keys of the issuer."""
        header = read_header(token)
        if header.type.lower() not in _TYPES:
            raise Unauthenticated("the token is no access token")
        if header.algorithm not in ALGORITHMS:
            # Before keys are asked for: whoever sends these knows no issuer.
            raise Unauthenticated("the token is signed by an algorithm that is not accepted")
        claims = await self._keys.verify(token, ALGORITHMS)
        # Some servers sign refresh tokens and those of sessions with the same key.
        if claims.get("typ", "Bearer") != "Bearer":
            raise Unauthenticated("the token is no access token")
        now = self._now().timestamp()
        until = token_claims.check(claims, self._issuer, self._audiences, now, LEEWAY_SECONDS)
        return Verified(_principal(claims), until)


class Introspection:
    """Tokens that only their issuer can read."""

    def __init__(
        self,
        issuer: str,
        audiences: Collection[str],
        ask: Ask,
        now: Callable[[], datetime],
    ) -> None:
        self._issuer = issuer
        self._audiences = frozenset(audiences)
        self._ask = ask
        self._now = now

    async def read(self, token: str) -> Verified:
        """Raises `Unauthenticated`; `StoreUnavailable` while the issuer does not answer."""
        if len(token) > LONGEST:
            raise Unauthenticated("the token is too long")
        form = {"token": token, "token_type_hint": "access_token"}
        claims = _parsed(await asyncio.to_thread(self._ask, form))
        if claims.get("active") is not True:
            raise Unauthenticated("the token is not good")
        now = self._now().timestamp()
        # What it may leave out, its own answer over TLS stands for; an audience it may not.
        until = token_claims.check(
            {"iss": self._issuer, "exp": now + _ASKED_AGAIN_SECONDS, **claims},
            self._issuer,
            self._audiences,
            now,
            LEEWAY_SECONDS,
        )
        return Verified(_principal(claims), min(until, now + _ASKED_AGAIN_SECONDS))


def _principal(claims: Mapping[str, Any]) -> Principal:
    words = claims.get("scope", "")
    roles = (OPERATOR,) if isinstance(words, str) and OPERATOR in words.split(" ") else ()
    return token_claims.principal_of(claims, roles)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise StoreUnavailable("the issuer's answer about a token cannot be read")
    return found
