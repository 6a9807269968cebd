"""Reads that are no searches: current versions, history, the commit order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.store import page_ends
from fhir_server.store.mongo import keys
from fhir_server.store.mongo.rows import (
    CURRENT,
    VERSION_FIELDS,
    from_milliseconds,
    to_milliseconds,
    to_plain,
    to_version,
)
from fhir_server.store.mongo.steps import Aggregate, Document, Filter, Find, Steps
from fhir_server.store.protocol import HistoryQuery, Page

COMMITS = Find({"_id": "commits"}, limit=1, collection="state")
_NEWEST = {name: {"$first": f"${name}"} for name in VERSION_FIELDS if name not in ("_id", "k")} | {
    "sequence": {"$first": "$_id"}
}


def commits() -> Steps[Document]:
    """The newest sequence, when it was, and how far the index was purged."""
    found = yield COMMITS
    return {name: to_plain(value) for name, value in found[0].items()}


def read(key: ResourceKey) -> Steps[Version | None]:
    found = yield Find(
        {"y": key.resource_type, "k": key.resource_id},
        VERSION_FIELDS,
        (("v", -1),),
        limit=1,
        hint="resource",
    )
    return to_version(found[0]) if found else None


def read_many(wanted: Sequence[ResourceKey]) -> Steps[tuple[Version, ...]]:
    distinct = tuple(dict.fromkeys(wanted))
    found = yield from current(distinct)
    return tuple(v for key in distinct if (v := found.get(key)) and not v.is_deletion)


def current(wanted: Sequence[ResourceKey]) -> Steps[dict[ResourceKey, Version]]:
    """The newest version of each that ever was, a deletion too: one look-up a resource.

    However many versions it has: the group takes one of each and goes on to the next.
    """
    found: dict[ResourceKey, Version] = {}
    for resource_type, ids in _by_type(wanted).items():
        pipeline: list[Document] = [
            {"$match": {"y": resource_type, "k": {"$in": ids}}},
            {"$sort": {"y": 1, "k": 1, "v": -1}},
            {"$group": {"_id": "$k", **_NEWEST}},
        ]
        for document in (yield Aggregate(pipeline, "resource")):
            document["k"], document["_id"] = document["_id"], document["sequence"]
            version = to_version(document)
            found[version.key] = version
    return found


def versions(
    wanted: Sequence[tuple[ResourceKey, int]],
) -> Steps[dict[tuple[ResourceKey, int], Version]]:
    """Of these resources these versions."""
    found: dict[tuple[ResourceKey, int], Version] = {}
    numbers: dict[int, list[ResourceKey]] = {}
    for key, version_id in wanted:
        numbers.setdefault(version_id, []).append(key)
    for version_id, asked in numbers.items():
        for resource_type, ids in _by_type(asked).items():
            filter_: Filter = {"y": resource_type, "k": {"$in": ids}, "v": version_id}
            for document in (yield Find(filter_, VERSION_FIELDS, hint="resource")):
                version = to_version(document)
                found[version.key, version_id] = version
    return found


def _by_type(wanted: Sequence[ResourceKey]) -> dict[str, list[str]]:
    by_type: dict[str, list[str]] = {}
    for resource_type, resource_id in wanted:
        by_type.setdefault(resource_type, []).append(resource_id)
    return by_type


def vread(key: ResourceKey, version_id: int) -> Steps[Version | None]:
    found = yield Find(
        {"y": key.resource_type, "k": key.resource_id, "v": version_id}, VERSION_FIELDS, limit=1
    )
    return to_version(found[0]) if found else None


def with_key(resource_type: str, index_key: Any) -> Steps[list[Document]]:
    """Ids and index keys of the current resources that have `index_key`."""
    return (
        yield Find(
            {"y": resource_type, "x": index_key, "s": CURRENT}, {"k": 1, "x": 1}, hint="keys"
        )
    )


def kept(name: str) -> Steps[str | None]:
    found = yield Find({"_id": name}, {"t": 1}, limit=1, collection="kept")
    return found[0]["t"] if found else None


def changes(
    after: int, until: int, resource_types: Sequence[str] | None = None, limit: int = 0
) -> Steps[tuple[Version, ...]]:
    """Versions in commit order behind `after` up to `until`."""
    filter_: Filter = {"_id": {"$gt": after, "$lte": until}}
    hint = "_id_"
    if resource_types is not None:
        filter_ |= {"y": {"$in": list(resource_types)}, "x": keys.MARKER}
        hint = "keys"
    found = yield Find(filter_, VERSION_FIELDS, (("_id", 1),), limit, hint)
    return tuple(to_version(document) for document in found)


def feed(after: int, limit: int) -> Steps[tuple[Version, ...]]:
    """Every version behind `after`."""
    # Transactions show all or nothing, and the next one writes only when the last is seen.
    return (yield from changes(after, CURRENT, limit=limit))


def history(query: HistoryQuery) -> Steps[Page]:
    state = yield from commits()
    as_of = state["sequence"] if query.as_of is None else min(query.as_of, state["sequence"])
    filter_: Filter = {}
    hint = "_id_"
    if query.resource_type is not None:
        filter_["y"] = query.resource_type
        if query.resource_id is not None:
            filter_["k"] = query.resource_id
            hint = "resource"
        else:
            filter_["x"] = keys.MARKER
            hint = "keys"
    oldest, newest = 1, as_of
    if query.since is not None:
        oldest = yield from first_at_or_after(query.since, as_of)
    if query.at is not None:
        # What was current then: there before its end, and not yet replaced when it began.
        newest = (yield from _first(-(-query.at.end // 1_000), as_of)) - 1
        filter_["s"] = {"$gte": (yield from _first(query.at.start // 1_000 + 1, as_of))}
    total = yield from _count({**filter_, "_id": {"$gte": oldest, "$lte": newest}}, hint)
    way = 1 if query.is_upward else -1
    if query.after is not None:
        oldest = max(oldest, query.after + 1)
    elif query.before is not None:
        newest = min(newest, query.before - 1)
    filter_["_id"] = {"$gte": oldest, "$lte": newest}
    order = (("v" if query.resource_id is not None else "_id", way),)
    count = max(query.count, 0)
    found = yield Find(filter_, VERSION_FIELDS, order, count + 1, hint)
    versions = tuple(to_version(document) for document in found[:count])
    ends = page_ends.find_in_history(query, versions, is_more=len(found) > count)
    if query.is_upward != query.is_oldest_first:
        versions = versions[::-1]
    return Page(versions, as_of, ends.next, total, ends.previous)


def _count(filter_: Filter, hint: str) -> Steps[int]:
    if filter_.keys() == {"_id"}:
        # The order has no gap.
        least, most = filter_["_id"]["$gte"], filter_["_id"]["$lte"]
        count: int = most - least + 1
        return max(0, count)
    found = yield Aggregate([{"$match": filter_}, {"$count": "total"}], hint)
    return found[0]["total"] if found else 0


def first_at_or_after(when: datetime, as_of: int) -> Steps[int]:
    """The least sequence whose `last_updated` is `when` or later; `as_of` + 1 if none is."""
    floor = to_milliseconds(when)
    # `last_updated` has whole milliseconds, `when` need not.
    return (yield from _first(floor if from_milliseconds(floor) == when else floor + 1, as_of))


def _first(milliseconds: int, as_of: int) -> Steps[int]:
    """By a milestone close before, then along the commit order: times never go back."""
    before = yield Find(
        {"m": {"$lt": milliseconds}}, {"_id": 1}, (("m", -1), ("_id", -1)), 1, "milestones"
    )
    found = yield Find(
        {
            "_id": {"$gt": before[0]["_id"] if before else 0, "$lte": as_of},
            "u": {"$gte": milliseconds},
        },
        {"_id": 1},
        (("_id", 1),),
        1,
        "_id_",
    )
    return found[0]["_id"] if found else as_of + 1


def sequences_of(updated: Filter, as_of: int) -> Steps[Filter]:
    """Bounds of the sequences for which a condition on `u` can hold, by the milestones."""
    bounds: Filter = {}
    least = updated.get("$gte", updated.get("$gt"))
    most = updated.get("$lte", updated.get("$lt"))
    if least is not None:
        before = yield Find(
            {"m": {"$lt": least}}, {"_id": 1}, (("m", -1), ("_id", -1)), 1, "milestones"
        )
        bounds["$gt"] = before[0]["_id"] if before else 0
    if most is not None:
        behind = yield Find(
            {"m": {"$gt": most}}, {"_id": 1}, (("m", 1), ("_id", 1)), 1, "milestones"
        )
        bounds["$lt"] = behind[0]["_id"] if behind else as_of + 1
    return bounds
