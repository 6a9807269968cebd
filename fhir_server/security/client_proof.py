"""Who a client is at the token endpoint: by a signed assertion, a secret, or only its name.

https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
https://www.rfc-editor.org/rfc/rfc7523
"""

import asyncio
import base64
import binascii
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from time import monotonic
from typing import Any
from urllib.parse import unquote_plus

from fhir_server.core.security import claims as token_claims
from fhir_server.core.security.claims import LEEWAY_SECONDS
from fhir_server.core.security.registration import Client
from fhir_server.errors import StoreUnavailable, Unauthenticated
from fhir_server.security.oauth_error import OAuthError
from fhir_server.security.registrations import Registrations, hashed
from fhir_server.security.remote_keys import Fetch, RemoteKeys
from fhir_server.security.signed_token import parse_keys, verify
from fhir_server.store.security.protocol import SecurityStore

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ("RS384", "ES384")

_LONGEST_SECONDS = 300.0
_LONGEST_JTI = 256
_MOST_SOURCES = 1_000

Form = Mapping[str, str]


class ClientProof:
    """For one event loop. `fetch` gets the keys of clients that have them at a URL."""

    def __init__(
        self,
        registrations: Registrations,
        store: SecurityStore,
        fetch: Fetch,
        now: Callable[[], datetime],
    ) -> None:
        self._registrations = registrations
        self._store = store
        self._fetch = fetch
        self._now = now
        self._sources: OrderedDict[str, RemoteKeys] = OrderedDict()

    async def client(self, form: Form, authorization: str, token_url: str) -> Client:
        """The client that sent `form`.

        Raises:
            OAuthError: it is none of ours, or has not proven it.
            StoreUnavailable: its keys, or what is registered, cannot be looked at.
        """
        if form.get("client_assertion_type") or form.get("client_assertion"):
            if authorization:
                raise OAuthError("invalid_request", "one way to say who the client is, not two")
            return await self._by_assertion(form, token_url)
        if authorization:
            client_id, secret = _basic(authorization)
            client = await self._find(client_id)
            # Compared even where there is nothing to: the time tells nothing.
            is_right = compare_digest((client.secret if client else "") or "-", hashed(secret))
            if client is None or not is_right or form.get("client_id", client_id) != client_id:
                raise _unknown()
            return client
        client = await self._find(form.get("client_id", ""))
        if client is None or not client.is_public:
            raise _unknown()
        return client

    async def _by_assertion(self, form: Form, token_url: str) -> Client:
        if form.get("client_assertion_type") != ASSERTION:
            raise OAuthError("invalid_client", f"client_assertion_type is {ASSERTION}", 401)
        assertion = form.get("client_assertion", "")
        try:
            client_id = _claimed_issuer(assertion)
            if form.get("client_id", client_id) != client_id:
                raise Unauthenticated("client_id is not who signed")
            client = await self._find(client_id)
            if client is None:
                raise Unauthenticated("no such client")
            claims = await self._verified(client, assertion)
            until = self._check(client, claims, token_url)
        except Unauthenticated as error:
            raise OAuthError("invalid_client", str(error), 401) from None
        # Bound to the client: what one has used, another may use.
        name = sha256(f"{client.client_id}\n{claims['jti']}".encode()).hexdigest()
        ends = datetime.fromtimestamp(until, UTC)
        if not await asyncio.to_thread(self._store.keep, "assertion", name, {}, ends):
            raise OAuthError("invalid_client", "the assertion was used before", 401)
        return client

    async def _verified(self, client: Client, assertion: str) -> Mapping[str, Any]:
        if client.jwks:
            return verify(assertion, parse_keys(client.jwks), ALGORITHMS)
        if not client.jwks_url:
            raise Unauthenticated("no such client")
        source = self._sources.get(client.jwks_url)
        if source is None:
            url = client.jwks_url
            source = self._sources[url] = RemoteKeys(lambda: url, self._fetch, monotonic)
            if len(self._sources) > _MOST_SOURCES:
                self._sources.popitem(last=False)
        try:
            return await source.verify(assertion, ALGORITHMS)
        except StoreUnavailable:
            raise Unauthenticated("the client's keys cannot be had") from None

    def _check(self, client: Client, claims: Mapping[str, Any], token_url: str) -> float:
        now = self._now().timestamp()
        until = token_claims.check(claims, client.client_id, (token_url,), now, LEEWAY_SECONDS)
        if until - LEEWAY_SECONDS > now + _LONGEST_SECONDS + LEEWAY_SECONDS:
            raise Unauthenticated("the assertion is good for more than five minutes")
        jti = claims.get("jti")
        if claims.get("sub") != client.client_id:
            raise Unauthenticated("the assertion is about another client")
        if not isinstance(jti, str) or not 0 < len(jti) <= _LONGEST_JTI:
            raise Unauthenticated("the assertion has no jti")
        return until

    async def _find(self, client_id: str) -> Client | None:
        if not client_id or len(client_id) > 64:
            return None
        return await asyncio.to_thread(self._registrations.active, Client, client_id)


def _claimed_issuer(assertion: str) -> str:
    """Who says that they signed it: whose keys to try."""
    try:
        payload = assertion.split(".")[1]
        found = token_claims.parse(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, binascii.Error, ValueError):
        raise Unauthenticated("the assertion is no signed token") from None
    issuer = found.get("iss")
    if not isinstance(issuer, str):
        raise Unauthenticated("the assertion does not say whose it is")
    return issuer


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    try:
        name, mark, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        mark = ""
    if scheme.lower() != "basic" or not mark:
        raise _unknown()
    return unquote_plus(name), unquote_plus(secret)


def _unknown() -> OAuthError:
    return OAuthError("invalid_client", "no such client, or it has not proven who it is", 401)
