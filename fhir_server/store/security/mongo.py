"""MongoSecurityStore: a database of its own, beside that of the resources."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar
from urllib.parse import urlsplit

from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.errors import ConfigurationError, DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.client_session import ClientSession
from pymongo.uri_parser import parse_uri

from fhir_server.errors import StoreUnavailable
from fhir_server.store.security.protocol import Change, Document, Registration

R = TypeVar("R")

_WAIT = 5_000
_LONGEST_ANSWER = 10_000
_REVISION = "revision"


class MongoSecurityStore:
    """Of the database that `url` names.

    Raises:
        ValueError: `url` is no MongoDB URL, or names no database.
        StoreUnavailable: it is not there.
    """

    is_near = False

    def __init__(self, url: str, now: Callable[[], datetime]) -> None:
        self._now = now
        try:
            name = parse_uri(url)["database"]
        except (ConfigurationError, PyMongoError) as error:
            raise ValueError("the security store's URL is not a MongoDB URL") from error
        if not name:
            raise ValueError("the security store's URL names no database")
        self._client: MongoClient[Document] = MongoClient(
            url,
            serverSelectionTimeoutMS=_WAIT,
            connectTimeoutMS=_WAIT,
            socketTimeoutMS=_LONGEST_ANSWER,
            tz_aware=True,
            appname="fhir-server",
        )
        database = self._client.get_database(
            name,
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True),
        )
        self._registrations = database["registrations"]
        self._passing = database["passing"]
        self._state = database["state"]
        try:
            with _translated():
                self._registrations.create_index([("kind", 1), ("name", 1)], unique=True)
                self._passing.create_index("until", expireAfterSeconds=0)
                self._state.update_one(
                    {"_id": _REVISION}, {"$setOnInsert": {"number": 1}}, upsert=True
                )
        except BaseException:
            self._client.close()
            raise

    def revision(self) -> int:
        with _translated():
            found = self._state.find_one({"_id": _REVISION})
        return int(found["number"]) if found else 0

    def find(self, kind: str, name: str) -> Document | None:
        with _translated():
            return _document(self._registrations.find_one({"_id": _id(kind, name)}))

    def list(self, kind: str) -> list[Registration]:
        with _translated():
            rows = self._registrations.find({"kind": kind}).sort("name", 1)
            return [Registration(row["name"], row["document"]) for row in rows]

    def change(self, kind: str, name: str, decide: Change) -> Document | None:
        def write(session: ClientSession) -> Document | None:
            key = {"_id": _id(kind, name)}
            # First, so that two changes wait for each other and never run side by side.
            self._state.update_one({"_id": _REVISION}, {"$inc": {"number": 1}}, session=session)
            made = decide(_document(self._registrations.find_one(key, session=session)))
            if made is None:
                self._registrations.delete_one(key, session=session)
            else:
                row = {"kind": kind, "name": name, "document": made}
                self._registrations.replace_one(key, row, upsert=True, session=session)
            return made

        return self._write(write)

    def keep(self, kind: str, name: str, document: Document, until: datetime) -> bool:
        over = {"_id": _id(kind, name), "until": {"$lte": self._now()}}
        with _translated():
            try:
                self._passing.update_one(
                    over, {"$set": {"document": document, "until": until}}, upsert=True
                )
            except DuplicateKeyError:
                return False
        return True

    def look(self, kind: str, name: str) -> Document | None:
        with _translated():
            return _document(self._passing.find_one(self._lasting(kind, name)))

    def amend(self, kind: str, name: str, decide: Change) -> Document | None:
        def write(session: ClientSession) -> Document | None:
            key = self._lasting(kind, name)
            # Taken hold of before it is read: of two at once the second sees the first's.
            row = self._passing.find_one_and_update(key, {"$inc": {"hold": 1}}, session=session)
            made = decide(_document(row))
            if row is None:
                return None
            if made is None:
                self._passing.delete_one(key, session=session)
            else:
                self._passing.update_one(key, {"$set": {"document": made}}, session=session)
            return made

        return self._write(write)

    def close(self) -> None:
        self._client.close()

    def _lasting(self, kind: str, name: str) -> Document:
        return {"_id": _id(kind, name), "until": {"$gt": self._now()}}

    def _write(self, write: Callable[[ClientSession], R]) -> R:
        with _translated(), self._client.start_session() as session:
            return session.with_transaction(
                write,
                read_concern=ReadConcern("snapshot"),
                write_concern=WriteConcern(w="majority", j=True),
            )


def beside(url: str) -> str:
    """The URL of the database of registrations that belongs to the store at `url`."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path}_security").geturl()


def _id(kind: str, name: str) -> str:
    return f"{kind}/{name}"


def _document(row: Document | None) -> Document | None:
    if row is None:
        return None
    document: Document = row["document"]
    return document


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except DuplicateKeyError:
        raise
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB: {type(error).__name__}") from error
