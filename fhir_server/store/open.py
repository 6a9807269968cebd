"""From a URL to a store: the scheme says which."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from fhir_server.core.form import Filled
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.security.audit_chain import NO_KEYS, ChainKeys
from fhir_server.store.checking import Checkable
from fhir_server.store.protocol import Archive, Definable, Extend, Outbox, Store
from fhir_server.store.sqlite.store import SqliteStore

_MEMORY = ":memory:"


class OpenStore(Store, Archive, Definable, Checkable, Protocol):
    """A store with its outbox, and what keeps it in order."""

    @property
    def outbox(self) -> Outbox: ...

    async def purge(self, older_than: datetime) -> int:
        """Forget how to search as of moments before `older_than`; how many versions it was.

        The versions stay, for reads and history. A page link from before then has expired.
        """
        ...


def open_store(
    url: str,
    indexer: Callable[[Resource | Filled], IndexEntries],
    parameters: SearchParameters,
    now: Callable[[], datetime],
    extend: Extend | None = None,
    trail_keys: ChainKeys = NO_KEYS,
) -> OpenStore:
    """Open the store that `url` names; an SQLite file is made if it is not there.

    `extend` says what to index by when parameters were added; without it nothing is added.

    `trail_keys` is what the chain of the audit trail is made with.

    ``sqlite:///./data/fhir.db`` is relative, ``sqlite:////var/lib/fhir.db`` absolute,
    ``sqlite:///:memory:`` gone with the process. ``mongodb://host/name?replicaSet=…`` is a
    database of a MongoDB replica set.

    Raises:
        ValueError: no store has this scheme, or the URL names no file.
        Unsupported: the file belongs to a newer release, or to another program.
        StoreUnavailable: it cannot be opened.
    """
    scheme = urlsplit(url).scheme
    if scheme == "sqlite":
        return SqliteStore(
            sqlite_path(url), indexer, parameters, now, extend=extend, trail_keys=trail_keys
        )
    if scheme in ("mongodb", "mongodb+srv"):
        # Imported when it is asked for: its drivers are large, and most need but a file.
        from fhir_server.store.mongo.store import open_mongo

        return open_mongo(url, indexer, parameters, now, extend=extend, trail_keys=trail_keys)
    raise ValueError(f"no store is known by the scheme {scheme!r}; use sqlite:///… or mongodb://…")


def sqlite_path(url: str) -> Path | None:
    """The file that an ``sqlite://`` URL names; None is the memory.

    Raises:
        ValueError: it names none, or another machine.
    """
    parts = urlsplit(url)
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "sqlite" or parts.netloc or not name or parts.query or parts.fragment:
        raise ValueError("a SQLite store is written sqlite:///file, sqlite:////folder/file")
    return None if name == _MEMORY else Path(name)
