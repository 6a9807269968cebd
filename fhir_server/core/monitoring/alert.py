"""Alerts: an episode as a DetectedIssue, and the Communications that tell people of it.

https://hl7.org/fhir/R4/detectedissue.html, https://hl7.org/fhir/R4/communication.html

The state of an alert is its `status`: `preliminary` while the episode goes on, `final` when
it is over, `entered-in-error` when the readings that it rested on say otherwise now. That
somebody has seen it is a `mitigation` (ADR 0020).
"""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Literal, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import claimed
from fhir_server.core.monitoring.assignment import concept_codes, local_key
from fhir_server.core.monitoring.claimed import claiming
from fhir_server.core.monitoring.episode import Episode
from fhir_server.core.monitoring.rule import Rule
from fhir_server.core.resource_json import Resource

ALERT_CODES = "https://pmp.example/fhir/CodeSystem/alert"
ALERT_RULE_SYSTEM = "https://pmp.example/fhir/NamingSystem/alert-rule"
NOTICE_SYSTEM = "https://pmp.example/fhir/NamingSystem/alert-notice"
NOTICES = "https://pmp.example/fhir/CodeSystem/alert-notice"

Notified = Literal["patient", "physician", "escalation"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TITLES = {
    "above-limit": "Above the limit",
    "below-limit": "Below the limit",
    "far-above-limit": "Far above the limit",
    "far-below-limit": "Far below the limit",
    "mean-above-limit": "On average above the limit",
    "mean-below-limit": "On average below the limit",
    "repeatedly-above-limit": "Repeatedly above the limit",
    "repeatedly-below-limit": "Repeatedly below the limit",
    "rising": "Rising",
    "falling": "Falling",
}


class AlertRecord(NamedTuple):
    """A stored alert that is not in error: which rule's, and from when to when.

    `end` is None while the episode goes on.
    """

    key: ResourceKey
    rule_id: str
    start: int
    end: int | None


def parse_alert(key: ResourceKey, issue: Resource, zone: tzinfo) -> AlertRecord | None:
    """The record of a DetectedIssue; None for one that is no alert, or in error."""
    if issue.get("status") in ("entered-in-error", "cancelled"):
        return None
    rule_id = rule_of(issue)
    period = issue.get("identifiedPeriod") or {}
    if rule_id is None or "start" not in period:
        return None
    end = period.get("end")
    return AlertRecord(
        key,
        rule_id,
        date_range.parse(period["start"], zone).start,
        date_range.parse(end, zone).start if end else None,
    )


def rule_of(issue: Resource) -> str | None:
    """The id of the rule an alert is about."""
    for identifier in issue.get("identifier", ()):
        if identifier.get("system") == ALERT_RULE_SYSTEM:
            return str(identifier.get("value"))
    return None


def new_alert(rule: Rule, patient: ResourceKey, episode: Episode) -> Resource:
    """The DetectedIssue of an episode."""
    title = _TITLES.get(rule.code, rule.code)
    return with_episode(
        {
            "resourceType": "DetectedIssue",
            "meta": claiming(claimed.ALERT),
            "identifier": [{"system": ALERT_RULE_SYSTEM, "value": rule.rule_id}],
            "status": "preliminary",
            "code": {
                "coding": [{"system": ALERT_CODES, "code": rule.code, "display": title}],
                "text": title,
            },
            "severity": rule.severity,
            "patient": {"reference": str(patient)},
            "identifiedPeriod": {},
            "implicated": [{"reference": str(rule.source)}],
        },
        episode,
    )


def with_episode(issue: Resource, episode: Episode) -> Resource:
    """The alert with the stretch and the evidence of `episode`; what else it says is kept."""
    period = {"start": format_moment(episode.start)}
    if episode.end is not None:
        period["end"] = format_moment(episode.end)
    changed = {**issue, "identifiedPeriod": period}
    changed["status"] = "preliminary" if episode.end is None else "final"
    if episode.evidence:
        changed["evidence"] = [{"detail": [{"reference": str(key)} for key in episode.evidence]}]
    return changed


def withdrawn(issue: Resource) -> Resource:
    """The alert when the readings no longer bear it out."""
    return {**issue, "status": "entered-in-error"}


def is_acknowledged(issue: Resource) -> bool:
    """Whether somebody has reacted."""
    return bool(issue.get("mitigation"))


def notice(
    alert: ResourceKey,
    issue: Resource,
    whom: Notified,
    recipients: list[Resource],
    now: datetime,
) -> Resource:
    """The Communication that tells `recipients` of an alert; it is on its way.

    What was measured is not in it: it points to the alert.
    """
    priority = "urgent" if issue.get("severity") == "high" else "routine"
    return {
        "resourceType": "Communication",
        "meta": claiming(claimed.ALERT_NOTICE),
        "identifier": [notice_identifier(alert, whom)],
        "status": "in-progress",
        "category": [{"coding": [{"system": NOTICES, "code": whom}]}],
        "priority": "stat" if whom == "escalation" else priority,
        "subject": issue["patient"],
        "about": [{"reference": str(alert)}],
        "sent": now.astimezone(UTC).isoformat(timespec="milliseconds"),
        "recipient": recipients,
        "payload": [
            {"contentString": issue["code"]["text"]},
            {"contentReference": {"reference": str(alert)}},
        ],
    }


def notice_identifier(alert: ResourceKey, whom: Notified) -> Resource:
    return {"system": NOTICE_SYSTEM, "value": f"{alert.resource_id}.{whom}"}


def alert_of(communication: Resource) -> ResourceKey | None:
    """The alert that a Communication tells of."""
    for reference in communication.get("about", ()):
        if (key := local_key(reference, "DetectedIssue")) is not None:
            return key
    return None


def physician_of(source: Resource) -> Resource | None:
    """Who is to be told: who set a Goal, wrote a CarePlan, or is a Patient's practitioner."""
    general = source.get("generalPractitioner") or [None]
    found: Any = source.get("expressedBy") or source.get("author") or general[0]
    return found if isinstance(found, dict) else None


def is_alert(issue: Resource) -> bool:
    return any(system == ALERT_CODES for system, _ in concept_codes(issue.get("code")))


def format_moment(instant: int) -> str:
    """Microseconds since 1970 as a FHIR dateTime in UTC."""
    when = _EPOCH + timedelta(microseconds=instant)
    timespec = "seconds" if not when.microsecond else "microseconds"
    return when.replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
