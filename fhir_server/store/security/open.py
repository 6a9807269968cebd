"""From a URL to a security store; where none is named, the one beside the resources' store."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

from fhir_server.store.open import sqlite_path
from fhir_server.store.security.protocol import SecurityStore
from fhir_server.store.security.sqlite import SqliteSecurityStore

_FILE = "security.db"


def security_path(url: str, store: str) -> Path | None:
    """The file of a security store, by the same URLs; None is memory."""
    path = sqlite_path(url or store)
    return path.with_name(_FILE) if path is not None and not url else path


def open_security_store(url: str, store: str, now: Callable[[], datetime]) -> SecurityStore:
    """`url` as for resources; "" is `security.db` in the folder of `store`, a database beside it.

    A store in memory has its registrations in memory.

    Raises:
        ValueError: no store has this scheme, or the URL names no file.
        Unsupported: the file belongs to a newer release, or to another program.
        StoreUnavailable: it cannot be opened.
    """
    scheme = urlsplit(url or store).scheme
    if scheme == "sqlite":
        return SqliteSecurityStore(security_path(url, store), now)
    if scheme in ("mongodb", "mongodb+srv"):
        from fhir_server.store.security.mongo import MongoSecurityStore, beside

        return MongoSecurityStore(url or beside(store), now)
    raise ValueError(f"no security store is known by the scheme {scheme!r}")
