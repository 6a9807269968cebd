"""Indexes: which of the declared ones are there, under which name, and building the others.

An index is built beside the work. Until then nothing hints at it: what it would answer is
answered by another one, or refused as too costly. One whose definition has changed is built
under a further name, and the old one is left for processes of the release before.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pymongo import IndexModel
from pymongo.errors import OperationFailure
from pymongo.synchronous.database import Database

from fhir_server.errors import StoreUnavailable
from fhir_server.store.mongo.steps import Document

_FURTHER = "~"
_OPTIONS = ("unique", "sparse", "partialFilterExpression", "expireAfterSeconds")
# IndexOptionsConflict, IndexKeySpecsConflict, IndexAlreadyExists, IndexBuildAborted: another
# process has made or dropped one of that name in between.
_CROSSED = frozenset({85, 86, 68, 276})
_NO_SUCH_COLLECTION = 26

Declared = Mapping[str, Sequence[Document]]
"""By collection: each index's `name`, `fields` and options."""


class _Found(NamedTuple):
    name: str
    definition: Document
    is_built: bool


class Missing(NamedTuple):
    """An index that is to be built, and under which name."""

    collection: str
    name: str
    model: IndexModel


class Indexes:
    """The indexes of a database as this process knows them; safe from any thread."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._names: dict[tuple[str, str], str | None] = {
            (collection, index["name"]): None
            for collection, indexes in declared.items()
            for index in indexes
        }

    def hint(self, collection: str, name: str) -> str | None:
        """What the index is called in the database; None while it is not built."""
        return self._names.get((collection, name), name)

    def required(self, collection: str, name: str) -> str:
        """`hint`, for what must not be done without.

        Raises:
            StoreUnavailable: it is not built yet.
        """
        found = self.hint(collection, name)
        if found is None:
            raise StoreUnavailable(f"the index {name} of {collection} is being built")
        return found

    def look(self, database: Database[Document]) -> tuple[Missing, ...]:
        """Learn what is there; what is not."""
        missing: list[Missing] = []
        for collection, declared in self._declared.items():
            found = _find(database, collection)
            for index in declared:
                wanted = _definition(index)
                equal = next((each for each in found if each.definition == wanted), None)
                is_built = equal is not None and equal.is_built
                self._names[collection, index["name"]] = (
                    equal.name if equal is not None and is_built else None
                )
                if not is_built:
                    name = _free_name(index["name"], found) if equal is None else equal.name
                    missing.append(Missing(collection, name, _model(name, wanted)))
        return tuple(missing)

    def build(self, database: Database[Document], missing: Sequence[Missing]) -> None:
        """Build them, those of a collection in one pass over it; blocks until they are built."""
        for collection in dict.fromkeys(each.collection for each in missing):
            models = [each.model for each in missing if each.collection == collection]
            try:
                database[collection].create_indexes(models)
            except OperationFailure as error:
                if error.code not in _CROSSED:
                    raise

    def retired(self, database: Database[Document]) -> tuple[tuple[str, str], ...]:
        """Collections and indexes that were ours, in a definition that is no more.

        An index of a name that was never declared is an operator's own.
        """
        return tuple(
            (collection, each.name)
            for collection, declared in self._declared.items()
            for each in _find(database, collection)
            if each.name.split(_FURTHER)[0] in {index["name"] for index in declared}
            and each.name not in {self._names[collection, index["name"]] for index in declared}
        )


def _find(database: Database[Document], collection: str) -> list[_Found]:
    # By command: the driver's own listing does not tell those that are still being built.
    try:
        answer = database.command(
            {"listIndexes": collection, "includeBuildUUIDs": True, "cursor": {"batchSize": 1_000}}
        )
    except OperationFailure as error:
        if error.code == _NO_SUCH_COLLECTION:
            return []
        raise
    return [
        _Found(
            (spec := each.get("spec", each))["name"], _definition_of(spec), "buildUUID" not in each
        )
        for each in answer["cursor"]["firstBatch"]
    ]


def _definition(index: Document) -> Document:
    return {"key": [tuple(field) for field in index["fields"]]} | _options(index)


def _definition_of(spec: Document) -> Document:
    return {"key": [(n, int(w)) for n, w in spec["key"].items() if w in (1, -1)]} | _options(spec)


def _options(index: Mapping[str, Any]) -> Document:
    return {name: index[name] for name in _OPTIONS if index.get(name) not in (None, False)}


def _model(name: str, definition: Document) -> IndexModel:
    options = {option: definition[option] for option in _OPTIONS if option in definition}
    return IndexModel(definition["key"], name=name, **options)


def _free_name(name: str, found: Sequence[_Found]) -> str:
    taken = {each.name for each in found}
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}{_FURTHER}{number}"
    return free
