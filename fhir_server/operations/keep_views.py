"""The daily job: what the days up to yesterday say of each patient, computed and kept.

A Task of each day says how far it is, so any number of processes share it, and who dies is
followed by another. Views have identifiers of their own: doing it twice changes nothing.
"""

import asyncio
import logging
from datetime import date, datetime, timedelta
from typing import NamedTuple

import msgspec

from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.quarantine import TASK_SYSTEM
from fhir_server.core.monitoring.views import VIEW_SYSTEM
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Cursor, Query
from fhir_server.core.version import Version, format_instant, next_version
from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.operations.views import store_views, yesterday_of
from fhir_server.store.protocol import Decision, Transaction

_log = logging.getLogger(__name__)

TASK_CODE = "compute-views"
_LEASE = timedelta(seconds=60)
_PATIENTS = 20


class _Share(NamedTuple):
    """Where to go on with a day's work."""

    task: Version
    after: Cursor | None


async def keep_views(ctx: Context, owner: str, seconds: float) -> None:
    """Look every `seconds` whether a day is over, until cancelled; 0 is never."""
    while seconds:
        await asyncio.sleep(seconds)
        try:
            await compute_views(ctx, owner, yesterday_of(ctx.now(), ctx.time_zone))
        except FhirError as error:
            _log.warning("the views were not computed: %s", error)


async def compute_views(ctx: Context, owner: str, yesterday: date) -> int:
    """Do the day's work, if it is not done or in somebody's hands; how many views changed."""
    share = await ctx.store.commit(_decide_begin(ctx, owner, yesterday))
    changed = 0
    while share is not None:
        query = Query("Patient", count=_PATIENTS, after=share.after)
        page = await ctx.store.search(query)
        for patient in page.versions:
            changed += await _views_of(ctx, patient.key, yesterday)
        share = await ctx.store.commit(_decide_progress(share.task, owner, page.next))
    return changed


async def _views_of(ctx: Context, patient: ResourceKey, yesterday: date) -> int:
    try:
        return await store_views(ctx, patient, yesterday)
    except FhirError as error:
        # One patient whose readings cannot be added up never stops the others.
        _log.warning("%s has no views of that day: %s", patient, type(error).__qualname__)
        return 0


def _decide_begin(ctx: Context, owner: str, day: date) -> Decision[_Share | None]:
    name = (VIEW_SYSTEM, f"views/{day.isoformat()}")

    def decide(tx: Transaction) -> _Share | None:
        current: Version | None = None
        for key in tx.find("Task", (name,)).get(name, ()):
            current = tx.read(key)
        if current is None or current.is_deletion:
            key = ResourceKey("Task", ctx.new_id())
            task = _task(name, owner, tx.now)
            return _Share(_put(tx, None, key, task), None)
        task = current.resource()
        if task.get("status") != "in-progress":
            return None
        is_fresh = tx.now - datetime.fromisoformat(task["lastModified"]) <= _LEASE
        if is_fresh and _owner(task) != owner:
            return None
        after = _parse(task)
        return _Share(_put(tx, current, current.key, _held(task, owner, tx.now)), after)

    return decide


def _decide_progress(version: Version, owner: str, after: Cursor | None) -> Decision[_Share | None]:
    def decide(tx: Transaction) -> _Share | None:
        current = tx.read(version.key)
        if current is None or current.version_id != version.version_id:
            return None
        task = _held(current.resource(), owner, tx.now)
        if after is None:
            task["status"] = "completed"
            task.pop("output", None)
            _put(tx, current, current.key, task)
            return None
        text = msgspec.json.encode((after.sequence, after.values)).decode()
        task["output"] = [{"type": {"text": "cursor"}, "valueString": text}]
        return _Share(_put(tx, current, current.key, task), after)

    return decide


def _task(name: tuple[str, str], owner: str, now: datetime) -> Resource:
    task: Resource = {
        "resourceType": "Task",
        "identifier": [{"system": name[0], "value": name[1]}],
        "status": "in-progress",
        "intent": "order",
        "code": {"coding": [{"system": TASK_SYSTEM, "code": TASK_CODE}]},
        "description": "What the days up to this one say of each patient is computed.",
        "authoredOn": format_instant(now),
    }
    return _held(task, owner, now)


def _held(task: Resource, owner: str, now: datetime) -> Resource:
    held = {"owner": {"identifier": {"value": owner}}, "lastModified": format_instant(now)}
    return {**task, **held}


def _owner(task: Resource) -> str | None:
    found = (task.get("owner") or {}).get("identifier", {}).get("value")
    return found if isinstance(found, str) else None


def _parse(task: Resource) -> Cursor | None:
    for part in task.get("output", ()):
        try:
            sequence, values = msgspec.json.decode(
                part.get("valueString", ""), type=tuple[int, tuple[int | str | None, ...]]
            )
        except msgspec.MsgspecError:
            # Somebody altered it: from the first patient again.
            return None
        return Cursor(values, sequence)
    return None


def _put(tx: Transaction, current: Version | None, key: ResourceKey, task: Resource) -> Version:
    version, stored = next_version(current, key, task, tx.now)
    tx.put(version, stored)
    return version
