"""MongoExportStore: jobs and files in a database of their own, for processes on many machines.

A file is kept in portions: whichever machine is asked for it has it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from pymongo import MongoClient, ReadPreference, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import PyMongoError

from fhir_server.errors import NotFound, StoreUnavailable
from fhir_server.store.exports.protocol import JobRecord

_Document = dict[str, Any]

_WAIT = 5_000
_LONGEST_ANSWER = 30_000


class MongoExportStore:
    """Beside the store at `url`, in a database whose name goes on with `_exports`."""

    def __init__(self, url: str) -> None:
        self._url = beside(url)
        self._lock = Lock()
        self._client: MongoClient[_Document] | None = None

    def add(self, name: str, text: str) -> None:
        with _translated():
            self._kept().insert_one({"_id": name, "revision": 1, "text": text})

    def find(self, name: str) -> JobRecord | None:
        with _translated():
            found = self._kept().find_one({"_id": name})
        return None if found is None else _record(found)

    def jobs(self) -> list[JobRecord]:
        with _translated():
            return [_record(found) for found in self._kept().find().sort("_id", 1)]

    def replace(self, record: JobRecord, text: str) -> JobRecord | None:
        following = record.revision + 1
        with _translated():
            done = self._kept().update_one(
                {"_id": record.name, "revision": record.revision},
                {"$set": {"revision": following, "text": text}},
            )
        return JobRecord(record.name, following, text) if done.matched_count else None

    def remove(self, name: str) -> None:
        with _translated():
            self._portions().delete_many({"job": name})
            self._kept().delete_one({"_id": name})

    def append(self, name: str, file: str, number: int, portion: bytes) -> None:
        # Written again after an answer was lost, it is the same.
        key = {"_id": f"{name}/{file}/{number}"}
        kept = {"job": name, "file": file, "number": number, "data": portion}
        with _translated():
            self._portions().replace_one(key, kept, upsert=True)

    def finish(self, name: str, file: str) -> None:
        """Each portion was durable when it was appended."""

    def drop(self, name: str, file: str) -> None:
        with _translated():
            self._portions().delete_many({"job": name, "file": file})

    def portions(self, name: str, file: str) -> Iterator[bytes]:
        number = 0
        # One look each, so that no cursor stays open while a slow client reads.
        while True:
            with _translated():
                found = self._portions().find_one({"_id": f"{name}/{file}/{number}"})
            if found is None:
                break
            yield found["data"]
            number += 1
        if number == 0:
            raise NotFound("there is no such file")

    def strays(self) -> list[str]:
        with _translated():
            # First the files: a job is there before they are.
            found = self._portions().distinct("job")
            known = {each["_id"] for each in self._kept().find({}, {"_id": 1})}
        return [name for name in found if name not in known]

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()

    def _kept(self) -> Collection[_Document]:
        return self._collection("jobs")

    def _portions(self) -> Collection[_Document]:
        return self._collection("portions")

    def _collection(self, name: str) -> Collection[_Document]:
        with self._lock:
            if self._client is None:
                client: MongoClient[_Document] = MongoClient(
                    self._url,
                    serverSelectionTimeoutMS=_WAIT,
                    connectTimeoutMS=_WAIT,
                    socketTimeoutMS=_LONGEST_ANSWER,
                    tz_aware=True,
                    appname="fhir-server",
                )
                try:
                    self._database(client)["portions"].create_index([("job", 1), ("file", 1)])
                except BaseException:
                    client.close()
                    raise
                self._client = client
            return self._database(self._client)[name]

    def _database(self, client: MongoClient[_Document]) -> Database[_Document]:
        return client.get_default_database(
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True),
        )


def beside(url: str) -> str:
    """The URL of the database of exports that belongs to the store at `url`."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path}_exports").geturl()


def _record(found: _Document) -> JobRecord:
    return JobRecord(found["_id"], found["revision"], found["text"])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except PyMongoError as error:
        raise StoreUnavailable(f"MongoDB: {type(error).__name__}") from error
