"""RemoteKeys: the public keys at a URL, kept, and fetched anew when a token names another."""

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from fhir_server.errors import StoreUnavailable
from fhir_server.security.signed_token import Keys, UnknownKeyError, parse_keys, verify

Fetch = Callable[[str], bytes]
"""What is at a URL. It waits, so never on a loop. Raises `StoreUnavailable`."""

_KEEP_SECONDS = 600.0
# Anyone can send a token with a made-up `kid`: that must not make us ask without end.
_PAUSE_SECONDS = 30.0
_RETRY_SECONDS = 5.0


class RemoteKeys:
    """`find_url` says where they are, and may have to ask itself; `clock` counts seconds."""

    def __init__(
        self, find_url: Callable[[], str], fetch: Fetch, clock: Callable[[], float]
    ) -> None:
        self._find_url = find_url
        self._fetch = fetch
        self._clock = clock
        self._keys: Keys | None = None
        self._fetched = 0.0
        self._tried = 0.0
        self._renewal: float | None = None
        self._lock = asyncio.Lock()

    async def verify(self, token: str, algorithms: Collection[str]) -> Mapping[str, Any]:
        """The claims of a token that one of the keys signed.

        Raises:
            Unauthenticated: none did.
            StoreUnavailable: there are no keys, and they cannot be fetched.
        """
        keys = await self._current()
        try:
            return verify(token, keys, algorithms)
        except UnknownKeyError:
            renewed = await self._renewed(keys)
            if renewed is keys:
                raise
            return verify(token, renewed, algorithms)

    async def _current(self) -> Keys:
        if self._keys is not None and self._clock() - self._fetched < _KEEP_SECONDS:
            return self._keys
        async with self._lock:
            if self._keys is not None and self._clock() - self._fetched < _KEEP_SECONDS:
                return self._keys
            if self._tried and self._clock() - self._tried < _RETRY_SECONDS:
                if self._keys is None:
                    raise StoreUnavailable("the issuer's keys cannot be had now")
                return self._keys
            try:
                return await self._load()
            except StoreUnavailable:
                # Keys outlive a moment in which their server is away.
                if self._keys is None:
                    raise
                return self._keys

    async def _renewed(self, known: Keys) -> Keys:
        async with self._lock:
            if self._keys is not known and self._keys is not None:
                return self._keys
            if self._renewal is not None and self._clock() - self._renewal < _PAUSE_SECONDS:
                return known
            self._renewal = self._clock()
            try:
                return await self._load()
            except StoreUnavailable:
                return known

    async def _load(self) -> Keys:
        self._tried = self._clock()
        self._keys = await asyncio.to_thread(self._read)
        self._fetched = self._clock()
        return self._keys

    def _read(self) -> Keys:
        try:
            return parse_keys(json.loads(self._fetch(self._find_url())))
        except (ValueError, RecursionError):
            raise StoreUnavailable("what should be the issuer's keys is no JWKS") from None


def discover(issuer: str, fetch: Fetch) -> str:
    """Where `issuer` says that its keys are.

    https://openid.net/specs/openid-connect-discovery-1_0.html

    Raises:
        StoreUnavailable: it does not say.
    """
    try:
        said = json.loads(fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration"))
        url, named = said["jwks_uri"], said["issuer"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise StoreUnavailable("the issuer does not say where its keys are") from None
    if named != issuer or not isinstance(url, str):
        raise StoreUnavailable("the issuer says that it is another")
    return url
