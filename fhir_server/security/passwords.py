"""Passwords: argon2id, and the patience that guessing meets.

https://www.rfc-editor.org/rfc/rfc9106
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from fhir_server.core.security.registration import Account
from fhir_server.errors import StoreUnavailable
from fhir_server.security.registrations import Registrations
from fhir_server.store.security.protocol import Document, SecurityStore

SHORTEST = 12
_LONGEST = 1_024
_TRIES = 5
_WINDOW = timedelta(minutes=15)
_FAILURES = "failed-sign-in"

_hasher = PasswordHasher()
# Each takes 64 MiB while it lasts: many who sign in at once must not take all there is.
_at_once = BoundedSemaphore(2)
_WAIT_SECONDS = 10.0


class TooManyTries(Exception):
    """The account was tried too often; later it can be tried again."""


def hash_password(password: str) -> str:
    """Raises `ValueError`: it is too short, or no password at all."""
    if not SHORTEST <= len(password) <= _LONGEST:
        raise ValueError(f"a password has {SHORTEST} characters or more")
    return _hasher.hash(password)


class SignIn:
    """Whether a name and a password belong together; each call waits for it."""

    def __init__(
        self, registrations: Registrations, store: SecurityStore, now: Callable[[], datetime]
    ) -> None:
        self._registrations = registrations
        self._store = store
        self._now = now
        # Of nobody: a name that does not exist takes as long as one that does.
        self._nobodys = _hasher.hash(secrets.token_urlsafe(16))

    def check(self, name: str, password: str) -> Account | None:
        """The account, or None.

        Raises:
            TooManyTries: nothing was looked at.
            StoreUnavailable: the store is away, or too many sign in at once.
        """
        known = name[:64]
        if self._count(known) >= _TRIES:
            raise TooManyTries
        # Counted before it is tried: many at once count as many.
        self._add_failure(known)
        account = self._registrations.active(Account, known)
        if not _is_right(account.password if account else self._nobodys, password):
            return None
        if account is not None:
            self._store.amend(_FAILURES, known, lambda _: None)
        return account

    def _count(self, name: str) -> int:
        found = self._store.look(_FAILURES, name)
        return int(found["count"]) if found else 0

    def _add_failure(self, name: str) -> None:
        if self._store.keep(_FAILURES, name, {"count": 1}, self._now() + _WINDOW):
            return

        def add(found: Document | None) -> Document | None:
            return None if found is None else {"count": found["count"] + 1}

        self._store.amend(_FAILURES, name, add)


def _is_right(hashed: str, password: str) -> bool:
    if not _at_once.acquire(timeout=_WAIT_SECONDS):
        raise StoreUnavailable("too many sign in at once")
    try:
        return len(password) <= _LONGEST and _hasher.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
    finally:
        _at_once.release()
