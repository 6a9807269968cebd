"""Collections and indexes, declared with mongoengine, and the connection to them.

The only module that uses mongoengine: it cannot pass a session, so everything else works
with pymongo on these collections.
"""

import itertools
from typing import Any, NamedTuple

import mongoengine
from mongoengine.fields import (
    BinaryField,
    BooleanField,
    DictField,
    DynamicField,
    IntField,
    ListField,
    LongField,
    StringField,
)
from pymongo import AsyncMongoClient, MongoClient, ReadPreference
from pymongo.errors import CollectionInvalid, ConfigurationError, OperationFailure, PyMongoError
from pymongo.synchronous.database import Database
from pymongo.uri_parser import parse_uri

from fhir_server.core.security.audit_chain import GENESIS
from fhir_server.errors import StoreUnavailable, Unsupported
from fhir_server.store.mongo.indexes import Indexes
from fhir_server.store.mongo.migration import Migration, is_up_to_date
from fhir_server.store.mongo.rows import HOT_PATHS
from fhir_server.store.mongo.steps import Document

SCHEMA_VERSION = 3

_ZSTD = {"wiredTiger": {"configString": "block_compressor=zstd"}}
_WAIT = 5_000
# Reads end themselves after 5 seconds, a commit after 10: what is silent for longer hangs.
LONGEST_ANSWER = 10_000
_NAMESPACE_EXISTS = 48
_ALIASES = itertools.count()


def _hot_indexes() -> list[Document]:
    indexes: list[Document] = []
    for path in HOT_PATHS:
        token = ["+hc"] if path.token else []
        indexes.append(
            {
                "name": path.index_name,
                "fields": [f"+{path.field}", *token, "-hd", "-_id"],
                "partialFilterExpression": {path.field: {"$exists": True}},
            }
        )
        indexes.append(
            {
                "name": f"{path.index_name}_wide",
                "fields": [f"+{path.field}", "-hd", "-_id"],
                "partialFilterExpression": {"hw": True},
            }
        )
    return indexes


class StoredVersion(mongoengine.DynamicDocument):  # type: ignore[misc]
    """One version of one resource with its index entries, by commit sequence.

    The hot fields hold what `rows.HOT_PATHS` says; they are scalars so that their
    indexes give the order.
    """

    sequence = LongField(primary_key=True)
    resource_type = StringField(db_field="y", required=True)
    resource_id = StringField(db_field="k", required=True)
    version_id = IntField(db_field="v", required=True)
    last_updated = LongField(db_field="u", required=True)  # milliseconds
    superseded = LongField(db_field="s", required=True)  # the sequence that did it
    is_purgeable = BooleanField(db_field="e")  # superseded and still searchable
    interaction = StringField(db_field="i", choices=("c", "u", "d", "p"), required=True)
    body = BinaryField(db_field="b")
    milestone = LongField(db_field="m")  # `last_updated` of every so many
    owner = StringField(db_field="p", required=True)  # of what `owners.py` says
    index_keys = ListField(StringField(), db_field="x")
    dates = ListField(DictField(), db_field="d")
    amounts = ListField(DictField(), db_field="q")
    strings = ListField(DictField(), db_field="st")
    texts = ListField(DictField(), db_field="tt")

    meta = {  # noqa: RUF012 - mongoengine reads it from the class
        "collection": "versions",
        "auto_create_index": False,
        "indexes": [
            {"name": "resource", "fields": ["+y", "+k", "-v"], "unique": True},
            {"name": "keys", "fields": ["+y", "+x", "+_id"]},
            {"name": "milestones", "fields": ["+m"], "sparse": True},
            {"name": "superseded", "fields": ["+s"], "partialFilterExpression": {"e": True}},
            {
                "name": "type_date",
                "fields": ["+y", "-hd", "-_id"],
                "partialFilterExpression": {"hd": {"$exists": True}},
            },
            *_hot_indexes(),
        ],
    }


class StoredText(mongoengine.DynamicDocument):  # type: ignore[misc]
    """What many versions of a type say, in the fields of a version; few, so without indexes."""

    key = StringField(primary_key=True)
    resource_type = StringField(db_field="y", required=True)
    index_keys = ListField(StringField(), db_field="x")
    texts = ListField(DictField(), db_field="tt")

    meta = {"collection": "texts", "auto_create_index": False}  # noqa: RUF012


class StoredDelivery(mongoengine.DynamicDocument):  # type: ignore[misc]
    """One version on its way to one sink, with its history."""

    delivery_id = LongField(primary_key=True)
    sink = StringField(db_field="n", required=True)
    sequence = LongField(db_field="q", required=True)
    group = StringField(db_field="g", required=True)
    state = StringField(db_field="st", required=True)
    is_open = BooleanField(db_field="o")  # until accepted; then absent
    due = LongField(db_field="t")  # milliseconds; of a sent one when its lease ends
    owner = StringField(db_field="w")
    events = ListField(DynamicField(), db_field="e")

    meta = {  # noqa: RUF012
        "collection": "deliveries",
        "auto_create_index": False,
        "indexes": [
            {"name": "version", "fields": ["+n", "+q"], "unique": True},
            {
                "name": "due",
                "fields": ["+n", "+st", "+t", "+_id"],
                "partialFilterExpression": {"o": True},
            },
            {
                "name": "group",
                "fields": ["+n", "+g", "+q"],
                "partialFilterExpression": {"o": True},
            },
            {
                "name": "order",
                "fields": ["+n", "+y", "+k", "+q"],
                "partialFilterExpression": {"o": True},
            },
            {"name": "age", "fields": ["+st", "+a"], "partialFilterExpression": {"o": True}},
            {
                "name": "patient",
                "fields": ["+s", "+_id"],
                "partialFilterExpression": {"s": {"$exists": True}},
            },
            {"name": "time", "fields": ["+a", "+_id"]},
        ],
    }


class StoredReceipt(mongoengine.DynamicDocument):  # type: ignore[misc]
    """What became of some deliveries of a sink, in a chain of digests."""

    sink = StringField(db_field="n", required=True)
    number = LongField(db_field="i", required=True)

    meta = {  # noqa: RUF012
        "collection": "receipts",
        "auto_create_index": False,
        "indexes": [{"name": "number", "fields": ["+n", "+i"], "unique": True}],
    }


class StoredState(mongoengine.DynamicDocument):  # type: ignore[misc]
    """A few named counters: the commit order, the outbox, the schema."""

    name = StringField(primary_key=True)

    meta = {"collection": "state", "auto_create_index": False}  # noqa: RUF012


class StoredSession(mongoengine.DynamicDocument):  # type: ignore[misc]
    """A process's database session and when it last showed life."""

    session_id = DynamicField(primary_key=True)
    alive = DynamicField(db_field="at")

    meta = {  # noqa: RUF012
        "collection": "sessions",
        "auto_create_index": False,
        "indexes": [{"name": "alive", "fields": ["+at"], "expireAfterSeconds": 3_600}],
    }


class KeptSearch(mongoengine.DynamicDocument):  # type: ignore[misc]
    """A search that is too long for a page link, sealed, and when a page was asked for last."""

    name = StringField(primary_key=True)
    sealed = StringField(db_field="t")
    asked = DynamicField(db_field="at")

    meta = {  # noqa: RUF012
        "collection": "kept",
        "auto_create_index": False,
        "indexes": [{"name": "asked", "fields": ["+at"]}],
    }


class StoredRecord(mongoengine.DynamicDocument):  # type: ignore[misc]
    """One record of the audit trail; its digest covers the one before."""

    sequence = LongField(primary_key=True)
    at = LongField(db_field="a", required=True)  # milliseconds
    text = BinaryField(db_field="t", required=True)
    digest = BinaryField(db_field="d", required=True)
    patients = ListField(StringField(), db_field="p")

    meta = {  # noqa: RUF012
        "collection": "trail",
        "auto_create_index": False,
        "indexes": [
            {"name": "patient", "fields": ["+p", "-_id"], "sparse": True},
            {"name": "time", "fields": ["+a", "+_id"]},
        ],
    }


_DECLARED = (
    StoredVersion,
    StoredText,
    StoredDelivery,
    StoredReceipt,
    StoredState,
    StoredSession,
    KeptSearch,
    StoredRecord,
)


class Connection(NamedTuple):
    """An open database. `alias` is mongoengine's name for it."""

    url: str
    alias: str
    client: MongoClient[Document]
    database: Database[Document]
    indexes: Indexes
    migration: Migration
    is_sharded: bool
    """Whether the server is a router, so that `versions` may be spread over shards."""

    def open_async(self) -> AsyncMongoClient[Document]:
        """A client of the running event loop; the caller closes it."""
        return AsyncMongoClient(self.url, **_options() | {"socketTimeoutMS": LONGEST_ANSWER})

    def close(self) -> None:
        self.migration.close()
        mongoengine.disconnect(self.alias)


def connect(url: str) -> Connection:
    """Open the database that `url` names, with its collections and indexes made.

    Raises:
        StoreUnavailable: it is not there, or is no replica set.
        Unsupported: it belongs to a newer release.
        ValueError: `url` is no MongoDB URL, or names no database.
    """
    try:
        name = parse_uri(url)["database"]
    except (ConfigurationError, PyMongoError) as error:
        raise ValueError("the store's URL is not a MongoDB URL") from error
    if not name:
        raise ValueError("the store's URL names no database: mongodb://host/name?replicaSet=…")
    alias = f"fhir-server-{next(_ALIASES)}"
    client = mongoengine.connect(name, alias=alias, host=url, **_options())
    try:
        connection = _connection(url, name, alias, client)
    except PyMongoError as error:
        mongoengine.disconnect(alias)
        raise StoreUnavailable(f"MongoDB: {type(error).__name__}") from error
    except BaseException:
        mongoengine.disconnect(alias)
        raise
    try:
        _prepare(connection)
    except PyMongoError as error:
        connection.close()
        raise StoreUnavailable(f"MongoDB: {type(error).__name__}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _connection(url: str, name: str, alias: str, client: MongoClient[Document]) -> Connection:
    hello = client.admin.command("hello")
    is_sharded = hello.get("msg") == "isdbgrid"
    if "setName" not in hello and not is_sharded:
        raise StoreUnavailable("MongoDB must be a replica set; one node is enough")
    indexes = Indexes(_declared_indexes(is_sharded=is_sharded))
    return Connection(
        url,
        alias,
        client,
        client.get_database(name, read_preference=ReadPreference.PRIMARY),
        indexes,
        Migration(
            lambda: MongoClient(url, **_options() | {"socketTimeoutMS": None}),
            name,
            indexes,
            SCHEMA_VERSION,
        ),
        is_sharded,
    )


def _options() -> dict[str, Any]:
    return {
        "serverSelectionTimeoutMS": _WAIT,
        "connectTimeoutMS": _WAIT,
        # How soon a node that said it is no primary, or going down, is looked at again.
        "heartbeatFrequencyMS": 1_000,
        "socketTimeoutMS": 2 * LONGEST_ANSWER,
        "uuidRepresentation": "standard",
        "tz_aware": True,
        "appname": "fhir-server",
    }


def _prepare(connection: Connection) -> None:
    state = connection.database["state"]
    schema = state.find_one({"_id": "schema"})
    if schema and schema["version"] > SCHEMA_VERSION:
        raise Unsupported(
            f"the store has schema {schema['version']}, this release knows {SCHEMA_VERSION}: "
            "it belongs to a newer release"
        )
    existing = set(connection.database.list_collection_names())
    for declared in _DECLARED:
        name = declared._meta["collection"]
        if name not in existing:
            _create(connection.database, name)
    missing = connection.indexes.look(connection.database)
    if missing and not state.find_one({"_id": "commits"}):
        # Nothing is stored yet, so there is nothing to wait for.
        connection.indexes.build(connection.database, missing)
        missing = connection.indexes.look(connection.database)
    for name, start in _COUNTERS.items():
        state.update_one({"_id": name}, {"$setOnInsert": start}, upsert=True)
    state.update_one({"_id": "schema"}, {"$max": {"version": SCHEMA_VERSION}})
    is_old = not is_up_to_date(connection.database)
    if missing or is_old or connection.indexes.retired(connection.database):
        connection.migration.start()


def _declared_indexes(*, is_sharded: bool) -> dict[str, list[Document]]:
    declared = {each._meta["collection"]: list(each._meta["index_specs"]) for each in _DECLARED}
    if is_sharded:
        # What is not led by the shard key cannot be unique; `transaction.py` looks instead.
        declared["versions"] = [
            {**index, "unique": False} if index["name"] == "resource" else index
            for index in declared["versions"]
        ]
    return declared


_COUNTERS: dict[str, Document] = {
    "schema": {"version": SCHEMA_VERSION},
    "commits": {
        "sequence": 0,
        "updated": 0,
        "purged": 0,
        "turns": 0,
        "owned": True,
        "texts": "all",
    },
    "outbox": {"position": 0, "deliveries": 0, "turns": 0},
    "trail": {
        "sequence": GENESIS.sequence,
        "digest": GENESIS.digest,
        "at": 0,
        "pruned": GENESIS.sequence,
        "pruned_digest": GENESIS.digest,
    },
}


def _create(database: Database[Document], name: str) -> None:
    try:
        database.create_collection(name, storageEngine=_ZSTD)
    except CollectionInvalid:
        # Another process made it in between.
        return
    except OperationFailure as error:
        if error.code != _NAMESPACE_EXISTS:
            raise
