"""Presence: who asked for something that lasts, as they are registered at this moment."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from threading import Lock
from time import monotonic

from fhir_server.core.security import scope
from fhir_server.core.security.principal import Principal
from fhir_server.core.security.registration import Account, Client, parse_key
from fhir_server.security.registrations import Registrations
from fhir_server.security.revisions import FAR_SECONDS
from fhir_server.store.security.protocol import SecurityStore


class Presence:
    """Safe from any thread; `opening` is called once, when somebody is asked about.

    What is known is forgotten with any change of the registrations, made by any process.
    """

    def __init__(
        self,
        opening: Callable[[], SecurityStore],
        now: Callable[[], datetime],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._opening = opening
        self._now = now
        self._clock = clock
        self._lock = Lock()
        self._store: SecurityStore | None = None
        self._looked: float | None = None
        self._revision = -1
        self._known: dict[Principal, Principal | None] = {}

    def of(self, principal: Principal) -> Principal | None:
        """`principal` with no more than they may now; None: they are not here any more.

        Raises:
            StoreUnavailable: it cannot be told.
        """
        with self._lock:
            if self._store is None:
                self._store = self._opening()
            self._look_again(self._store)
            if principal not in self._known:
                registrations = Registrations(self._store, self._now)
                self._known[principal] = self._found(registrations, principal)
            return self._known[principal]

    def close(self) -> None:
        """Let go of the store that was opened here."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def _look_again(self, store: SecurityStore) -> None:
        now = self._clock()
        if not store.is_near and self._looked is not None and now - self._looked < FAR_SECONDS:
            return
        revision = store.revision()
        self._looked = now
        if revision != self._revision:
            self._known.clear()
            self._revision = revision

    def _found(self, registrations: Registrations, principal: Principal) -> Principal | None:
        client = registrations.active(Client, principal.client_id)
        if client is None:
            return None
        limits = [client.scopes]
        who: Client | Account = client
        if principal.kind != "system":
            account = registrations.active(Account, principal.subject)
            if account is None or not _is_same(account, principal):
                return None
            limits.append(account.scopes)
            who = account
        scopes = principal.scopes
        for limit in limits:
            text = " ".join(map(scope.format, scopes))
            scopes = scope.parse_all(" ".join(scope.narrow(text, scope.parse_all(limit))))
        if not scopes:
            return None
        return replace(
            principal, scopes=scopes, roles=frozenset(who.roles), purposes=tuple(who.purposes)
        )


def _is_same(account: Account, principal: Principal) -> bool:
    """Whether who signs in by that name is still who did then."""
    return parse_key(account.fhir_user) == principal.fhir_user
