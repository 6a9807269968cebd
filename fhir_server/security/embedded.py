"""Embedded: the authorization server of one machine, put together."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fhir_server.security.authorization import Authorization
from fhir_server.security.client_proof import ClientProof
from fhir_server.security.own_tokens import OwnTokens, Verified
from fhir_server.security.passwords import SignIn
from fhir_server.security.registrations import Registrations
from fhir_server.security.remote_keys import Fetch
from fhir_server.security.signing_keys import SigningKeys
from fhir_server.security.token_grants import TokenGrants
from fhir_server.store.security.protocol import SecurityStore


@dataclass(frozen=True, slots=True)
class Embedded:
    """Its parts, for the routes that people and programs come by."""

    keys: SigningKeys
    tokens: OwnTokens
    proof: ClientProof
    grants: TokenGrants
    authorization: Authorization
    sign_in: SignIn

    async def read(self, token: str) -> Verified:
        """Raises `Unauthenticated`, `StoreUnavailable`."""
        return await asyncio.to_thread(self.tokens.read, token)


def open_embedded(
    store: SecurityStore, base_url: str, fetch: Fetch, now: Callable[[], datetime]
) -> Embedded:
    """`base_url` is what its tokens are for; "" is whatever has the keys in `store`.

    Raises:
        StoreUnavailable: the keys cannot be read.
    """
    registrations = Registrations(store, now)
    keys = SigningKeys(store, now)
    tokens = OwnTokens(base_url or keys.server_id, keys, registrations, store, now)
    return Embedded(
        keys,
        tokens,
        ClientProof(registrations, store, fetch, now),
        TokenGrants(tokens, keys, registrations, store, now),
        Authorization(registrations, store, now),
        SignIn(registrations, store, now),
    )
