"""Registrations: clients, accounts and gateways by name, each change seen by every process."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import NamedTuple, TypeVar

from fhir_server.core.security.registration import (
    Account,
    Client,
    Gateway,
    check_name,
    from_document,
    name_of,
    to_document,
)
from fhir_server.store.security.protocol import Document, SecurityStore

R = TypeVar("R", Client, Account, Gateway)

_KINDS: dict[type, str] = {Client: "client", Account: "account", Gateway: "gateway"}
_FOR_EVER = 0
_GATEWAY_KEY = "fhirgw"


class GatewayKey(NamedTuple):
    """What stands in a key of a gateway."""

    name: str
    secret: str


class Registrations:
    """What is registered in one security store. Calls may wait for it."""

    def __init__(self, store: SecurityStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    def find(self, kind: type[R], name: str) -> R | None:
        document = self._store.find(_KINDS[kind], name)
        return None if document is None else from_document(kind, document)

    def active(self, kind: type[R], name: str) -> R | None:
        found = self.find(kind, name)
        return found if found is not None and found.is_active else None

    def list(self, kind: type[R]) -> list[R]:
        return [from_document(kind, each.document) for each in self._store.list(_KINDS[kind])]

    def add(self, registration: Client | Account | Gateway) -> None:
        """Raises `ValueError`: the name is none, or there is one of that name."""
        name = check_name(name_of(registration))

        def decide(found: Document | None) -> Document:
            if found is not None:
                raise ValueError(f"{_KINDS[type(registration)]} {name} is registered already")
            return to_document(registration)

        self._store.change(_KINDS[type(registration)], name, decide)

    def change(self, kind: type[R], name: str, make: Callable[[R], R]) -> R:
        """What `make` makes of it, in its next generation; `make` may run again.

        Raises:
            ValueError: there is none of that name.
        """
        made: list[R] = []

        def decide(found: Document | None) -> Document:
            if found is None:
                raise ValueError(f"no {_KINDS[kind]} is called {name}")
            was = from_document(kind, found)
            made[:] = [replace(make(was), generation=was.generation + 1)]
            return to_document(made[0])

        self._store.change(_KINDS[kind], name, decide)
        return made[0]

    def revoke(self, kind: type[R], name: str) -> None:
        """It may come in no more, and what it was given is void. The name stays taken."""
        self.change(kind, name, lambda found: replace(found, is_active=False))

    def renew_gateway_key(self, name: str, overlap: timedelta = timedelta(0)) -> str:
        """A new key, shown this once; those before it are good for `overlap` more.

        A gateway that was revoked comes in again.
        """
        secret = secrets.token_urlsafe(32)
        now = self._now().timestamp()
        ends = int((self._now() + overlap).timestamp())

        def make(found: Gateway) -> Gateway:
            old = [(k, min(e or ends, ends)) for k, e in found.keys if found.is_active]
            lasting = tuple(each for each in old if each[1] > now)
            return replace(found, keys=((hashed(secret), _FOR_EVER), *lasting), is_active=True)

        self.change(Gateway, name, make)
        return f"{_GATEWAY_KEY}.{name}.{secret}"

    def gateway_of(self, key: GatewayKey) -> tuple[Gateway, float | None] | None:
        """The gateway whose key it is, and when the key ends."""
        found = self.active(Gateway, key.name)
        shown = hashed(key.secret)
        if found is None:
            return None
        for known, ends in found.keys:
            if compare_digest(known, shown) and (not ends or self._now().timestamp() < ends):
                return found, float(ends) if ends else None
        return None


def parse_gateway_key(text: str) -> GatewayKey | None:
    """None: it is no key of a gateway, whether or not it is good."""
    mark, _, rest = text.partition(".")
    name, _, secret = rest.partition(".")
    return GatewayKey(name, secret) if mark == _GATEWAY_KEY and name and secret else None


def hashed(secret: str) -> str:
    """For secrets of 256 random bits: nobody guesses these, so nothing slower is needed."""
    return sha256(secret.encode()).hexdigest()
