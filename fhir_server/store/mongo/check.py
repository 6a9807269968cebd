"""Checking: whether versions, index entries and outbox agree with each other.

Faults name keys and sequences, never what a resource says.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from pymongo.synchronous.database import Database

from fhir_server.core import resource_json
from fhir_server.core.version import Version, format_instant
from fhir_server.errors import FhirError
from fhir_server.store.checking import Checked, Report
from fhir_server.store.mongo import owners, positions, texts
from fhir_server.store.mongo.indexes import Indexes
from fhir_server.store.mongo.rows import CURRENT, INDEX_FIELDS, MILESTONE, RowBuilder, to_version
from fhir_server.store.mongo.steps import Document
from fhir_server.store.protocol import DeliveryState

_BATCH = 500


class Check(NamedTuple):
    """What was looked at, by kind, and what is wrong."""

    counts: dict[str, int]
    faults: tuple[str, ...]


def check(
    database: Database[Document],
    indexes: Indexes,
    rows: RowBuilder,
    report: Report,
    bodies: Sequence[Checked] | None,
) -> Check:
    """Look at everything; the store may be in use, what is written meanwhile is left out."""
    state = {found["_id"]: found for found in database["state"].find()}
    newest: int = state["commits"]["sequence"]
    counts = {"versions": newest, "resources": 0, "current": 0}
    faults = [
        *_check_order(database, state["commits"]),
        *_check_resources(database, indexes, newest, counts),
        *_check_texts(database),
    ]
    if bodies is None:
        bodies = [check_bodies(database, rows, 1, newest, report)]
    faults += (fault for part in bodies for fault in part.faults)
    faults += _check_outbox(database, state, counts)
    return Check(counts, tuple(faults))


def check_bodies(
    database: Database[Document], rows: RowBuilder, first: int, last: int, report: Report
) -> Checked:
    """Bodies say which version they are, and the index entries are those that they give."""
    faults: list[str] = []
    looked_at = 0
    kept: set[str] = set()
    part = database["versions"].find({"_id": {"$gte": first, "$lte": last}}, hint="_id_")
    for found in part.sort("_id", 1):
        version = to_version(found)
        place = f"{version.key} version {version.version_id}"
        faults += (f"{place} {fault}" for fault in _check_version(version, found, rows))
        named = set(texts.named(found.get("x", ())))
        if not named <= kept:
            # What is kept comes before the versions that name it, so again and not at first.
            kept.update(each["_id"] for each in database[texts.COLLECTION].find({}, {"_id": 1}))
            faults += [f"{place} names a text that is not kept"] if named - kept else []
        looked_at += 1
        if looked_at == _BATCH:
            report(looked_at)
            looked_at = 0
    report(looked_at)
    return Checked(tuple(faults), last)


def _check_order(database: Database[Document], commits: Document) -> Iterator[str]:
    """The commit order has no gap, and time never goes back in it."""
    expected, updated = 1, 0
    fields = {"u": 1, "m": 1}
    newest = commits["sequence"]
    for found in database["versions"].find({"_id": {"$lte": newest}}, fields).sort("_id", 1):
        if found["_id"] != expected:
            yield f"sequence {expected} is missing"
        if found["u"] < updated:
            yield f"sequence {found['_id']} is older than the one before"
        if found.get("m") != (None if found["_id"] % MILESTONE else found["u"]):
            yield f"sequence {found['_id']} has a wrong milestone"
        expected, updated = found["_id"] + 1, found["u"]
    if expected != newest + 1:
        yield f"the commit order ends at {expected - 1}, its counter says {newest}"
    if updated > commits["updated"]:
        yield "the newest version is newer than the commit counter"


def _check_resources(
    database: Database[Document], indexes: Indexes, newest: int, counts: dict[str, int]
) -> Iterator[str]:
    """Each resource's versions follow each other."""
    fields = {"y": 1, "k": 1, "v": 1, "s": 1, "i": 1}
    by_key = [("y", 1), ("k", 1), ("v", 1)]
    every = database["versions"].find({"_id": {"$lte": newest}}, fields).sort(by_key)
    every = every.hint(indexes.required("versions", "resource"))
    for (resource_type, resource_id), found in groupby(
        every, key=lambda each: (each["y"], each["k"])
    ):
        name = f"{resource_type}/{resource_id}"
        counts["resources"] += 1
        before: Document | None = None
        for each in found:
            if each["v"] != (before["v"] + 1 if before else 1):
                yield f"{name} version {each['v']} does not follow the version before"
            if before is not None and before["s"] != each["_id"]:
                yield (
                    f"{name} version {each['v']} is not what the version before says superseded it"
                )
            before = each
        if before is not None and before["s"] <= newest:
            yield f"{name} has no current version"
        if before is not None and before["i"] != "d":
            counts["current"] += 1


def _check_texts(database: Database[Document]) -> Iterator[str]:
    """What stands for many versions says what its key says."""
    for found in database[texts.COLLECTION].find():
        if found["_id"] != texts.own_text(found).key:
            yield f"the text {found['_id']!r} says something else"


def _check_version(version: Version, found: Document, rows: RowBuilder) -> Iterator[str]:
    if version.body is None:
        if version.interaction != "delete":
            yield "has no body and is no deletion"
        return
    try:
        resource = resource_json.parse_resource(version.body)
        expected = rows.index_fields(version.key.resource_type, resource)
    except FhirError:
        yield "cannot be read"
        return
    meta = resource.get("meta") or {}
    if (
        (resource["resourceType"], resource.get("id")) != version.key
        or meta.get("versionId") != str(version.version_id)
        or meta.get("lastUpdated") != format_instant(version.last_updated)
    ):
        yield "says another id, version or time in its body"
    is_purged = found["s"] < CURRENT and not found.get("e")
    if not is_purged:
        if found.get(owners.FIELD) != owners.owner(version.key.resource_id, expected["x"]):
            yield "says another owner than its body"
        stored, wanted = texts.settled(found), texts.in_form_of(found, expected)
        for name in INDEX_FIELDS:
            if stored.get(name) != wanted.get(name):
                yield f"has other index entries ({name}) than its body gives"


def _check_outbox(
    database: Database[Document], state: dict[str, Document], counts: dict[str, int]
) -> Iterator[str]:
    position = max(
        found["position"]
        for name, found in state.items()
        if name.partition(":")[0] == positions.BEGIN
    )
    if position > state["commits"]["sequence"]:
        yield "the outbox is ahead of the commit order"
    made: dict[str, int] = {}
    newest = state["outbox"]["deliveries"]
    for found in database["deliveries"].find({"_id": {"$lte": newest}}, {"e": 0}):
        made[found["n"]] = made.get(found["n"], 0) + 1
        place = f"delivery {found['_id']}"
        if found["q"] > position:
            yield f"{place} is of a version that the outbox has not reached"
        is_done = found["st"] in (DeliveryState.ACCEPTED, DeliveryState.REGISTERED)
        if bool(found.get("o")) == is_done:
            yield f"{place} is accepted and waits, or does neither"
        if (found["st"] == DeliveryState.SENT) != ("w" in found):
            yield f"{place} has an owner and is not sent, or the other way round"
    counts["deliveries"] = sum(made.values())
    for name, counter in state.items():
        sink = name.removeprefix("sink:")
        if sink != name and counter["made"] != made.get(sink, 0):
            yield f"the sink {sink} has {made.get(sink, 0)} deliveries, its counter says otherwise"
