"""Who may come in, put together from the settings: authenticator, routes, where tokens are had."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import Lock, Thread
from time import monotonic

from starlette.routing import BaseRoute

from fhir_server.core.security.principal import Principal
from fhir_server.core.security.smart_configuration import Endpoints, own_endpoints
from fhir_server.errors import StoreUnavailable
from fhir_server.outbox.credentials import Secret
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.fetch import Fetch
from fhir_server.rest.authenticator import Authenticator, Nobody
from fhir_server.rest.authorization_routes import authorization_routes
from fhir_server.rest.base_url import BaseUrls
from fhir_server.security.bearer import BearerAuthenticator, Read
from fhir_server.security.embedded import open_embedded
from fhir_server.security.issuer_tokens import Introspection, IssuerTokens
from fhir_server.security.presence import Presence
from fhir_server.security.registrations import Registrations
from fhir_server.security.remote_keys import RemoteKeys, discover
from fhir_server.security.revisions import Revisions
from fhir_server.security.shared_rates import SharedRates
from fhir_server.settings import IssuerSettings, Settings
from fhir_server.store.open import sqlite_path
from fhir_server.store.security.open import open_security_store
from fhir_server.store.security.protocol import SecurityStore

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Entrance:
    """What one process needs of it. `store` is None where nobody is asked who they are."""

    authenticator: Authenticator
    routes: tuple[BaseRoute, ...] = ()
    endpoints: Callable[[str], Endpoints | None] | None = None
    store: SecurityStore | None = None

    def registered(
        self, settings: Settings, now: Now
    ) -> Callable[[Principal], Principal | None] | None:
        """Who is registered now; None where others than this server know."""
        store = self.store
        if store is None or settings.issuer.url:
            return None
        return Presence(lambda: store, now).of

    def shared_rates(self, now: Now) -> SharedRates | None:
        """What gateways have left in all processes; None where there are none."""
        return None if self.store is None else SharedRates(self.store, now)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


def open_entrance(settings: Settings, now: Now) -> Entrance:
    """Open the security store, and make what stands on it.

    Raises:
        StoreUnavailable, Unsupported: the security store cannot be opened.
        ValueError: a setting is wrong.
    """
    if settings.auth == "none":
        return Entrance(Nobody())
    store = open_security_store(settings.security_store, settings.store, now)
    registrations = Registrations(store, now)
    try:
        if settings.issuer.url:
            read = _issuer_reader(settings, now)
            endpoints: Callable[[str], Endpoints | None] = _IssuerEndpoints(settings.issuer).find
            routes: list[BaseRoute] = []
        else:
            fetch = Fetch(OutboundPolicy(allow_private=settings.allow_private_endpoints))
            embedded = open_embedded(store, settings.base_url, fetch.document, now)
            read = embedded.read
            endpoints = own_endpoints
            base_urls = BaseUrls(settings.base_url, settings.trusted_proxies)
            routes = authorization_routes(embedded, base_urls)
    except BaseException:
        store.close()
        raise
    authenticator = BearerAuthenticator(read, registrations, Revisions(store), now)
    return Entrance(authenticator, tuple(routes), endpoints, store)


def open_presence(settings: Settings, now: Now) -> Presence | None:
    """For who delivers; None where nobody is registered here, or only in memory."""
    if settings.auth == "none" or settings.issuer.url:
        return None
    url = settings.security_store or settings.store
    if url.startswith("sqlite") and sqlite_path(url) is None:
        return None
    return Presence(lambda: open_security_store(settings.security_store, settings.store, now), now)


def open_registrations(settings: Settings, now: Now) -> tuple[Registrations, SecurityStore]:
    """For the command line; the caller closes the store.

    Raises:
        StoreUnavailable, Unsupported: the security store cannot be opened.
    """
    store = open_security_store(settings.security_store, settings.store, now)
    return Registrations(store, now), store


def _issuer_reader(settings: Settings, now: Now) -> Read:
    issuer = settings.issuer
    audiences = (issuer.audience or settings.base_url,)
    # An address in the settings is the operator's own choice: it may be in their network.
    fetch = Fetch(OutboundPolicy(allow_private=True))
    if issuer.introspection_url:
        proof, _ = Secret(issuer.client_id, settings.issuer_secret).prove("", now())
        return Introspection(
            issuer.url,
            audiences,
            lambda form: fetch.answer_to(issuer.introspection_url, form, proof),
            now,
        ).read

    def find_url() -> str:
        return issuer.keys_url or discover(issuer.url, fetch.document)

    keys = RemoteKeys(find_url, fetch.document, monotonic)
    return IssuerTokens(issuer.url, audiences, keys, now).read


# As OpenID's document calls the fields of Endpoints behind the issuer.
_NAMES = (
    "token_endpoint", "authorization_endpoint", "jwks_uri", "introspection_endpoint",
    "revocation_endpoint",
)  # fmt: skip


class _IssuerEndpoints:
    """What the settings do not say, the issuer is asked, in the background: it may be away."""

    _RETRY_SECONDS = 60.0

    def __init__(self, issuer: IssuerSettings) -> None:
        self._fetch = Fetch(OutboundPolicy(allow_private=True))
        self._issuer = issuer
        self._found = Endpoints(issuer.url, issuer.token_url, issuer.authorize_url, issuer.keys_url)
        self._tried = -self._RETRY_SECONDS
        self._lock = Lock()

    def find(self, _base_url: str) -> Endpoints:
        with self._lock:
            is_due = monotonic() - self._tried >= self._RETRY_SECONDS
            if not self._found.token and is_due:
                self._tried = monotonic()
                Thread(target=self._ask, daemon=True, name="issuer").start()
        return self._found

    def _ask(self) -> None:
        url = f"{self._issuer.url.rstrip('/')}/.well-known/openid-configuration"
        try:
            said = json.loads(self._fetch.document(url))
        except (StoreUnavailable, ValueError):
            return
        if not isinstance(said, dict) or said.get("issuer") != self._issuer.url:
            return
        found = [said.get(name, "") for name in _NAMES]
        if all(isinstance(each, str) for each in found):
            self._found = Endpoints(self._issuer.url, *found)
