"""Escalation: an alert that nobody reacts to is told to the care team, once.

The notice to the physician is looked at when it has been on its way for too long. Any
number of processes may look: what they do is decided where it commits.
"""

import asyncio
import logging
from datetime import timedelta

from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import alert
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Query
from fhir_server.core.version import format_instant, next_version
from fhir_server.errors import FhirError
from fhir_server.interactions.condition import parse_condition
from fhir_server.interactions.context import Context
from fhir_server.store.protocol import Decision, Transaction

_log = logging.getLogger(__name__)

_EVERY_SECONDS = 20.0
_PAGE = 100


async def keep_escalating(ctx: Context, minutes: float) -> None:
    """Look again and again until cancelled; `minutes` is how long somebody has to react."""
    if not minutes:
        return
    pause = min(_EVERY_SECONDS, minutes * 60)
    while True:
        await asyncio.sleep(pause)
        try:
            await escalate(ctx, timedelta(minutes=minutes))
        except FhirError as error:
            _log.warning("nothing was escalated: %s", error)


async def escalate(ctx: Context, after: timedelta) -> int:
    """Tell the care teams of what physicians have left for so long; how many alerts."""
    found = parse_condition(
        ctx,
        "Communication",
        (
            ("category", f"{alert.NOTICES}|physician"),
            ("status", "in-progress"),
            ("sent", f"lt{format_instant(ctx.now() - after)}"),
        ),
    )
    query: Query | None = found.query._replace(count=_PAGE)
    done = 0
    while query is not None:
        page = await ctx.store.search(query)
        for version in page.versions:
            done += await ctx.store.commit(_decision(ctx, version.key))
        query = page.next and query._replace(after=page.next, as_of=page.as_of)
    return done


def _decision(ctx: Context, key: ResourceKey) -> Decision[bool]:
    def decide(tx: Transaction) -> bool:
        current = tx.read(key)
        if current is None or current.is_deletion:
            return False
        told = current.resource()
        about = alert.alert_of(told)
        issue = None if about is None else tx.read(about)
        # Another process may have been faster, or somebody has reacted meanwhile.
        if told.get("status") != "in-progress" or about is None:
            return False
        if issue is None or issue.is_deletion:
            return False
        resource = issue.resource()
        recipients = _care_team(ctx, tx, resource) or told.get("recipient", [])
        notice = alert.notice(about, resource, "escalation", recipients, tx.now)
        tx.put(*next_version(None, ResourceKey("Communication", ctx.new_id()), notice, tx.now))
        told["status"] = "stopped"
        told["statusReason"] = {"text": "Nobody reacted: told to the care team"}
        tx.put(*next_version(current, key, told, tx.now))
        return True

    return decide


def _care_team(ctx: Context, tx: Transaction, issue: Resource) -> list[Resource]:
    """The care teams of the plan that the alert's rule comes from, or that has its Goal."""
    recipients: list[Resource] = []
    for reference in issue.get("implicated", ()):
        source = reference.get("reference", "")
        if source.startswith("CarePlan/"):
            plan = tx.read(ResourceKey("CarePlan", source.partition("/")[2]))
            plans = [] if plan is None or plan.is_deletion else [plan]
        else:
            condition = parse_condition(ctx, "CarePlan", (("goal", source),))
            plans = list(tx.search(condition.query._replace(count=_PAGE)).versions)
        for version in plans:
            recipients += version.resource().get("careTeam", ())
    return recipients
