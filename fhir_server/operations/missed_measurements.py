"""The sweep: each active plan is looked at when one of its windows is over, and not before.

The process that holds the lease keeps the moment at which each plan is next due, follows what
changes of plans, and looks at those that are due: what is missing becomes a Task, decided
where it commits and named by what is missing, so it is made once. Plans with open Tasks are
looked at now and then, so one that a late reading fills is closed (ADR 0022).
"""

import asyncio
import heapq
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import missed
from fhir_server.core.monitoring.adherence import Expectation, compare
from fhir_server.core.monitoring.assignment import local_key, requested_by
from fhir_server.core.monitoring.missed import Gap
from fhir_server.core.monitoring.quarantine import TASK_SYSTEM
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version, format_instant, next_version
from fhir_server.errors import FhirError, TooCostly
from fhir_server.interactions.condition import parse_condition
from fhir_server.interactions.context import Context
from fhir_server.operations.followed_book import in_portions
from fhir_server.operations.planned import (
    Plan,
    expected_windows,
    read_plan,
    read_readings,
    readings_in,
    readings_query,
)
from fhir_server.operations.sweep_lease import claim
from fhir_server.store.protocol import Decision, Transaction

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 20.0
_LEASE = timedelta(minutes=5)
_RECHECK = 10 * 60 * 1_000_000
# How long a Task waits for a late reading; then somebody closes it by hand.
_WAITS = 14 * missed.DAY
_PAGE = 200
_OPEN = ",".join(sorted(missed.OPEN))
_AT_ONCE = 16
_WATCHED = ("CarePlan", "ServiceRequest")
_BEHIND_ALL = 2**62


async def keep_sweeping(ctx: Context, pause: float = _EVERY_SECONDS) -> None:
    """Look again and again until cancelled. Any number of processes may: one does."""
    sweep = Sweep(ctx)
    while True:
        await asyncio.sleep(pause)
        try:
            await sweep.once()
        except FhirError as error:
            sweep.forget()
            _log.warning("missed measurements were not looked for: %s", error)


class _State(NamedTuple):
    """Up to when a plan was looked at, and when it is next due (None: never as it stands)."""

    checked: int
    due: int | None


class Sweep:
    """What one process knows of the plans; made anew it begins where the lease says."""

    def __init__(self, ctx: Context, lease: timedelta = _LEASE) -> None:
        self._ctx = ctx
        self._owner = ctx.new_id()
        self._lease = lease
        self._renewed: datetime | None = None
        self._zone = date_range.load_zone(ctx.time_zone)
        self._plans: dict[ResourceKey, _State] = {}
        self._heap: list[tuple[int, ResourceKey]] = []
        self._plan_of: dict[ResourceKey, ResourceKey] = {}
        self._open: dict[ResourceKey, int] = {}
        self._followed = self._follow_from = 0

    def forget(self) -> None:
        """Begin where the lease says: a look has failed half way."""
        self._renewed = None

    async def once(self) -> int:
        """One look; how many Tasks were made or closed. 0 while another process does it."""
        begun = self._ctx.now()
        if self._renewed is None and not await self._has_plans():
            return 0
        if self._renewed is None or begun - self._renewed > self._lease / 2:
            # Saying how far it came is safe: the look before this one was ended.
            swept = await self._ctx.store.commit(claim(self._owner, self._lease, self._renewed))
            if swept is None:
                self._renewed = None
                return 0
            is_new = self._renewed is None
            if is_new:
                await self._load(date_range.from_datetime(swept))
            self._renewed = begun
        now = date_range.from_datetime(begun)
        await self._follow(now)
        done = 0
        due = self._take_due(now)
        for some in in_portions(due, _AT_ONCE):
            done += sum(await asyncio.gather(*(self._bounded(self._check, k, now) for k in some)))
        waiting = [key for key, moment in self._open.items() if moment <= now and key not in due]
        for some in in_portions(waiting, _AT_ONCE):
            done += sum(await asyncio.gather(*(self._bounded(self._recheck, k, now) for k in some)))
        return done

    async def _bounded(
        self, look: Callable[[ResourceKey, int], Awaitable[int]], key: ResourceKey, now: int
    ) -> int:
        try:
            return await look(key, now)
        except TooCostly as error:
            # Left out until it changes: it must not hold up all others.
            self._plans[key] = _State(now, None)
            self._open.pop(key, None)
            _log.warning("%s was not looked at: %s", key, error)
            return 0

    async def _has_plans(self) -> bool:
        """Whether there is anything to look at: a store without plans is left as it is."""
        found = parse_condition(self._ctx, "CarePlan", (("status", "active"),))
        return bool((await self._ctx.store.search(found.query)).versions)

    async def _load(self, swept: int) -> None:
        """Every active plan is due: what was settled since `swept` is looked at once."""
        self._plans, self._heap, self._plan_of, self._open = {}, [], {}, {}
        newest, _ = await self._ctx.store.commit(lambda tx: tx.changes(_BEHIND_ALL, _WATCHED))
        self._followed = self._follow_from = newest
        async for version in self._search("CarePlan", (("status", "active"),)):
            self._schedule(version.key, _State(swept, swept))
        code = f"{TASK_SYSTEM}|{missed.TASK_CODE}"
        async for version in self._search("Task", (("code", code), ("status", _OPEN))):
            for based_on in version.resource().get("basedOn", ()):
                if (key := local_key(based_on, "CarePlan")) is not None:
                    self._open[key] = 0

    async def _follow(self, now: int) -> None:
        """Plans that changed are due at once."""
        begin = self._follow_from
        newest, changed = await self._ctx.store.commit(lambda tx: tx.changes(begin, _WATCHED))
        # What was seen last time may have been undone since, and its place in the order taken
        # by something else: that stretch is read twice.
        self._follow_from, self._followed = self._followed, newest
        for version in changed:
            key: ResourceKey | None = version.key
            if version.key.resource_type == "ServiceRequest":
                key = self._plan_of.get(version.key)
            if key is not None:
                known = self._plans.get(key)
                self._schedule(key, _State(known.checked if known else now, now))

    def _schedule(self, key: ResourceKey, state: _State) -> None:
        self._plans[key] = state
        if state.due is not None:
            heapq.heappush(self._heap, (state.due, key))

    def _take_due(self, now: int) -> list[ResourceKey]:
        found: dict[ResourceKey, None] = {}
        while self._heap and self._heap[0][0] <= now:
            due, key = heapq.heappop(self._heap)
            state = self._plans.get(key)
            # A plan that was scheduled anew has an older place in the heap as well.
            if state is not None and state.due == due:
                found[key] = None
        return list(found)

    async def _check(self, key: ResourceKey, now: int) -> int:
        """Look at a plan that is due."""
        since = self._plans[key].checked
        version = await self._ctx.store.read(key)
        plan = await self._plan(version)
        if (
            plan is None
            or version is None
            or plan.resource.get("status") != "active"
            or not plan.is_alive
        ):
            self._plans.pop(key, None)
            return 0
        for request in requested_by(plan.resource):
            self._plan_of[request] = key
        begin = since - missed.looked_back(plan.activities)
        expected = expected_windows(plan, begin, now)
        found = await self._gaps(plan, expected, now)
        made = 0
        if any(gap.missing and gap.settled > since for gap in found):
            made = await self._ctx.store.commit(self._decision(version, plan, expected, since, now))
            self._open[key] = now + _RECHECK
        self._schedule(key, _State(now, missed.next_due(plan.activities, now)))
        return made

    async def _recheck(self, key: ResourceKey, now: int) -> int:
        """Look whether what was missed has come."""
        version = await self._ctx.store.read(key)
        plan = await self._plan(version)
        code = f"{TASK_SYSTEM}|{missed.TASK_CODE}"
        wanted = (("based-on", str(key)), ("code", code), ("status", _OPEN))
        names = set()
        async for task in self._search("Task", wanted):
            names |= {(i.get("system"), i.get("value")) for i in task.resource()["identifier"]}
        if not names or plan is None or version is None:
            self._open.pop(key, None)
            return 0
        self._open[key] = now + _RECHECK
        expected = expected_windows(plan, now - _WAITS, now)
        found = await self._gaps(plan, expected, now)
        is_filled = any(
            not gap.missing and missed.identifier(key, plan.activities[gap.place], gap) in names
            for gap in found
        )
        if not is_filled:
            return 0
        return await self._ctx.store.commit(self._decision(version, plan, expected, now, now))

    async def _plan(self, version: Version | None) -> Plan | None:
        if version is None or version.is_deletion:
            return None
        try:
            return await read_plan(self._ctx.store, version, self._zone)
        except (ValueError, ArithmeticError, KeyError, TypeError):
            # One plan that was let in unchecked must not end the look at all others.
            _log.warning("%s is not understood: nothing of it is missed", version.key)
            return None

    async def _gaps(
        self, plan: Plan, expected: tuple[Expectation, ...], now: int
    ) -> tuple[Gap, ...]:
        query = readings_query(self._ctx.parameters, plan, expected)
        readings = await read_readings(self._ctx.store, query, plan.zone)
        return missed.gaps(plan.activities, compare(plan.activities, expected, readings), now)

    def _decision(
        self,
        version: Version,
        plan: Plan,
        expected: tuple[Expectation, ...],
        since: int,
        now: int,
    ) -> Decision[int]:
        """Make the Tasks of what is missing since then, close those that are filled."""
        query = readings_query(self._ctx.parameters, plan, expected)
        new_ids = [self._ctx.new_id() for _ in expected]

        def decide(tx: Transaction) -> int:
            current = tx.read(plan.key)
            if current is None or current.version_id != version.version_id:
                # It is due again: the change is followed.
                return 0
            # Looked at where it commits: a reading may have come since.
            readings = readings_in(tx, query, plan.zone)
            kept = compare(plan.activities, expected, readings)
            found = {
                missed.identifier(plan.key, plan.activities[gap.place], gap): gap
                for gap in missed.gaps(plan.activities, kept, now)
            }
            stored = tx.find("Task", found)
            ids, done = iter(new_ids), 0
            for name, gap in found.items():
                for key in stored.get(name, ()):
                    task = tx.read(key)
                    if not gap.missing and task is not None and not task.is_deletion:
                        resource = task.resource()
                        if resource.get("status") in missed.OPEN:
                            closed = missed.filled(resource, format_instant(tx.now))
                            tx.put(*next_version(task, key, closed, tx.now))
                            done += 1
                if gap.missing and gap.settled > since and not stored.get(name):
                    activity = plan.activities[gap.place]
                    made = missed.task(plan.key, plan.resource, activity, gap, plan.zone)
                    key = ResourceKey("Task", next(ids))
                    tx.put(*next_version(None, key, made, tx.now))
                    done += 1
            return done

        return decide

    async def _search(
        self, resource_type: str, params: tuple[tuple[str, str], ...]
    ) -> AsyncIterator[Version]:
        """All that match, a page at a time."""
        found = parse_condition(self._ctx, resource_type, params)
        query: Query | None = found.query._replace(count=_PAGE)
        while query is not None:
            page = await self._ctx.store.search(query)
            for version in page.versions:
                yield version
            query = page.next and query._replace(after=page.next, as_of=page.as_of)
