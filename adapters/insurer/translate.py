"""What the insurer reads: one transaction Bundle that is harmless to send again.

Nothing in it has our ids. Each entry is a conditional update by an identifier: of a report
by patient and period, of a reading by its own.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from adapters.insurer.aggregate import Period, report_value
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryRejected

NEWS_SYSTEM = "https://pmp.example/fhir/NamingSystem/insurer-news"
RESOURCE_SYSTEM = "https://pmp.example/fhir/NamingSystem/resource"

_SERVERS = ("id", "meta", "text", "contained")
# They say who is meant in ids of this server, or by what the insurer has no business with.
_LEFT_OUT = ("device", "performer", "basedOn", "encounter", "focus", "derivedFrom", "hasMember")


def subject_of(
    patient: Resource, coverages: Iterable[Resource], systems: Sequence[str]
) -> dict[str, Any]:
    """A Reference to the patient as the insurer knows them: by the policy, not by name.

    Raises:
        DeliveryRejected: there is no identifier that the insurer could know.
    """
    by_system = {i.get("system"): i for i in patient.get("identifier") or () if i.get("value")}
    for system in systems:
        if system in by_system:
            value = by_system[system]["value"]
            return {"type": "Patient", "identifier": {"system": system, "value": value}}
    for coverage in coverages:
        if coverage.get("subscriberId"):
            return {"type": "Patient", "identifier": {"value": coverage["subscriberId"]}}
    raise DeliveryRejected("the patient has no identifier that the insurer could know")


def outward(resource: Resource, subject: Mapping[str, Any]) -> Resource:
    """A resource without what is only ours; its patient is `subject`."""
    body = {
        name: value
        for name, value in resource.items()
        if name not in _SERVERS and name not in _LEFT_OUT
    }
    identifiers = body.get("identifier") or []
    if not any(each.get("system") and each.get("value") for each in identifiers):
        name = f"{resource['resourceType']}/{resource.get('id', '')}"
        value = hashlib.sha256(name.encode()).hexdigest()[:40]
        body["identifier"] = [*identifiers, {"system": RESOURCE_SYSTEM, "value": value}]
    return {**body, "subject": dict(subject)}


def news(name: str, period: Period, subject: Mapping[str, Any], base_url: str) -> Resource:
    """That there is something new of a period, without a word of what: ask by a Task."""
    value = report_value(name, period)
    payload = {"contentString": f"home monitoring, {period.first} to {period.last}"}
    return {
        "resourceType": "Communication",
        "identifier": [{"system": NEWS_SYSTEM, "value": value}],
        "status": "completed",
        "subject": dict(subject),
        "payload": [payload],
        **({"sender": {"display": base_url}} if base_url else {}),
    }


def bundle(resources: Iterable[Resource]) -> Resource:
    """A transaction of conditional updates; the last of one identifier counts."""
    entries: dict[str, Resource] = {}
    for resource in resources:
        identifier = next(i for i in resource["identifier"] if i.get("system"))
        token = f"{identifier['system']}|{identifier['value']}"
        url = f"{resource['resourceType']}?identifier={quote(token, safe=':/|')}"
        entries[url] = {"resource": resource, "request": {"method": "PUT", "url": url}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries.values())}
