"""Which documents a care plan asks for, and when: a decision over the plan and its Tasks.

A referral when the plan becomes active; a protocol when a reporting period ends and when the
plan is completed. There is one planned protocol at a time: what ends plans the next.
"""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from adapters.national_registry.documents import registration
from adapters.national_registry.documents.content import Kind
from adapters.national_registry.documents.registration import State
from adapters.national_registry.port import Transaction
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Query
from fhir_server.core.version import next_version

Open = Callable[[ResourceKey], Query]
"""The search for a plan's Tasks that are only planned."""


class Policy(NamedTuple):
    """`report_days` is the reporting period's length; 0 reports completed plans alone."""

    kinds: frozenset[Kind]
    report_days: int
    time_zone: str


class _Plan(NamedTuple):
    key: ResourceKey
    subject: str
    status: str
    first: date | None
    last: date | None


def plan_documents(tx: Transaction, plan_key: ResourceKey, policy: Policy, planned: Open) -> None:
    """Bring the plan's Tasks in line with what the plan says now; twice is as once."""
    plan = _plan(tx, plan_key)
    waiting = [v for v in tx.search(planned(plan_key)).versions if not v.is_deletion]
    if plan is None or plan.status in ("revoked", "entered-in-error"):
        for version in waiting:
            _put(tx, version.key, registration.moved(version.resource(), State.CANCELLED, tx.now))
        return
    if plan.first is None:
        return
    if plan.status == "active" and Kind.REFERRAL in policy.kinds:
        _ensure(tx, plan, Kind.REFERRAL, (plan.first, plan.last), tx.now)
    if Kind.PROTOCOL not in policy.kinds:
        return
    if plan.status == "active" and policy.report_days and not waiting:
        plan_report(tx, plan_key, plan.first, policy)
    if plan.status == "completed":
        _report_the_rest(tx, plan, [v.resource() for v in waiting], policy)


def plan_report(tx: Transaction, plan_key: ResourceKey, first: date, policy: Policy) -> None:
    """Plan the protocol of the period that begins at `first`, if the plan goes on so far."""
    plan = _plan(tx, plan_key)
    if plan is None or plan.status != "active" or not policy.report_days:
        return
    if plan.last is not None and first > plan.last:
        return
    last = first + timedelta(days=policy.report_days - 1)
    last = last if plan.last is None else min(last, plan.last)
    _ensure(tx, plan, Kind.PROTOCOL, (first, last), _midnight(last + timedelta(days=1), policy))


def _report_the_rest(tx: Transaction, plan: _Plan, waiting: list[Resource], policy: Policy) -> None:
    today = tx.now.astimezone(ZoneInfo(policy.time_zone)).date()
    ended = today if plan.last is None else min(plan.last, today)
    is_waiting = False
    for task in waiting:
        if registration.kind_of(task) is not Kind.PROTOCOL:
            continue
        is_waiting = True
        first, _ = registration.period_of(task)
        key = registration.task_key(plan.key, Kind.PROTOCOL, first)
        if first > ended:
            _put(tx, key, registration.moved(task, State.CANCELLED, tx.now))
            continue
        shortened = registration.with_period(task, first, ended)
        _put(tx, key, registration.moved(shortened, State.PLANNED, tx.now, due=tx.now))
    if not is_waiting and not policy.report_days and plan.first is not None:
        _ensure(tx, plan, Kind.PROTOCOL, (plan.first, max(ended, plan.first)), tx.now)


def _ensure(
    tx: Transaction, plan: _Plan, kind: Kind, period: tuple[date, date | None], due: datetime
) -> None:
    key = registration.task_key(plan.key, kind, period[0])
    current = tx.read(key)
    if current is not None and not current.is_deletion:
        return
    task = registration.planned(plan.key, plan.subject, kind, period, due, tx.now)
    _put(tx, key, task)


def _put(tx: Transaction, key: ResourceKey, task: Resource) -> None:
    tx.put(*next_version(tx.read(key), key, task, tx.now))


def _plan(tx: Transaction, key: ResourceKey) -> _Plan | None:
    version = tx.read(key)
    if version is None or version.is_deletion:
        return None
    plan = version.resource()
    period = plan.get("period") or {}
    subject = str((plan.get("subject") or {}).get("reference", ""))
    if not subject.startswith("Patient/"):
        return None
    first, last = _day(period.get("start")), _day(period.get("end"))
    return _Plan(key, subject, plan.get("status", ""), first, last)


def _day(text: str | None) -> date | None:
    """The day that is written; a month alone is its first."""
    if not text:
        return None
    year, month, day = (*text[:10].split("-"), "01", "01")[:3]
    return date(int(year), int(month), int(day))


def _midnight(day: date, policy: Policy) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(policy.time_zone))
