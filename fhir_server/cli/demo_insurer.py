"""The demo's insurer: patients are insured, all but one agree, and what then arrives."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import requests
from rich.console import Console

from fhir_server.cli.demo_processes import Children, DemoError
from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.store.protocol import DeliveryState, Outbox

SINK = "insurer"

_IDENTIFIER = {"system": "urn:oid:1.2.643.5.1.13.13.99.2.183", "value": "46"}
_SNILS = "https://fhir.ru/ig/core/systems/snils"
# Who does not agree: the one whose payloads are the hub's own examples.
_SILENT = "TestPatientId"
_WAITING = (DeliveryState.QUEUED, DeliveryState.SENT)
_SECONDS = 60.0


class Insured(NamedTuple):
    """What the insurer was told, and what the ledger says of it; `audits` are AuditEvents."""

    reports: Sequence[Resource]
    states: Counter[str]
    reasons: frozenset[str]
    audits: Sequence[Resource]


def start(children: Children, url: str, seconds: float) -> None:
    """The stand-in, a process of its own."""
    port = url.rpartition(":")[2]
    children.start("insurer", ["-m", "adapters.insurer.stand_in", "--port", port], {})
    children.wait_for_answer(f"{url}/received", seconds)


def section(url: str) -> dict[str, Any]:
    """The adapter's settings."""
    return {
        "url": f"{url}/fhir",
        "identifier": "|".join(_IDENTIFIER.values()),
        "patient_systems": [_SNILS],
    }


def insure(fhir: str) -> int:
    """Give every patient a Coverage, and all but one a Consent; how many agreed."""
    organization = {"resourceType": "Organization", "identifier": [_IDENTIFIER], "name": "Insurer"}
    payor = {"reference": f"Organization/{_create(fhir, organization)['id']}"}
    agreed = 0
    for patient in _all(fhir, "Patient"):
        of = {"reference": f"Patient/{patient['id']}"}
        coverage = {"resourceType": "Coverage", "status": "active", "beneficiary": of}
        _create(fhir, coverage | {"payor": [payor]})
        if _SILENT not in {each.get("value") for each in patient.get("identifier", ())}:
            _create(fhir, _consent(of, payor))
            agreed += 1
    return agreed


def wait(children: Children, outbox: Outbox, fhir: str, url: str) -> Insured:
    """What happened, when nothing waits for the insurer any more."""
    deadline = time.monotonic() + _SECONDS
    while True:
        counts = {state: n for (sink, state), n in outbox.counts().items() if sink == SINK}
        receipts = sum(head.number for n, head in outbox.receipt_heads().items() if n == SINK)
        audits = _all(fhir, "AuditEvent", {"agent-name": SINK})
        is_done = counts and not any(counts.get(state) for state in _WAITING)
        if (is_done and len(audits) >= receipts) or time.monotonic() > deadline:
            break
        children.check_alive()
        time.sleep(0.1)
    told = requests.get(f"{url}/received", timeout=30)
    withheld = outbox.list(SINK, (DeliveryState.WITHHELD,), 1_000, 0)
    return Insured(
        resource_json.parse(told.content)["resources"],
        Counter({state.value: number for state, number in counts.items()}),
        frozenset(each.reason for each in withheld),
        audits,
    )


def faults(insured: Insured) -> Iterator[str]:
    """What is not as it must be, in words."""
    if not insured.reports:
        yield "the insurer was told nothing"
    if {each["resourceType"] for each in insured.reports} - {"MeasureReport"}:
        yield "the insurer was told more than aggregates"
    if not insured.states["withheld"]:
        yield "nothing was withheld from the insurer"
    if set(insured.states) - {"accepted", "withheld"}:
        yield "something for the insurer was neither accepted nor withheld"
    if {each["outcome"] for each in insured.audits} != {"0", "4"}:
        yield "there are no AuditEvents of what the insurer was given, and was not"


def show(insured: Insured, console: Console) -> None:
    console.print("\n[bold]Deliveries to the insurer (a stand-in, its own process)[/]")
    states = ", ".join(f"{number} {state}" for state, number in sorted(insured.states.items()))
    console.print(f"  {states or 'none'}")
    for reason in sorted(insured.reasons):
        console.print(f"  withheld: {reason}", markup=False)
    targets = [
        group
        for report in insured.reports
        for group in report["group"]
        if group["code"]["coding"][0]["code"] == "in-target"
    ]
    counts = [
        sum(g["population"][place]["count"] for g in targets if "population" in g)
        for place in (0, 1)
    ]
    console.print(
        f"  the insurer has {len(insured.reports)} reports of a patient's month, no reading; "
        f"{counts[1]} of {counts[0]} measurements with a goal were in target"
    )
    console.print(f"  {len(insured.audits)} AuditEvents tell who was given what, and who was not")


def _consent(patient: Resource, payor: Resource) -> Resource:
    recipient = {
        "system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
        "code": "IRCP",
    }
    actor = {"role": {"coding": [recipient]}, "reference": payor}
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [
                {
                    "system": "http://terminology.hl7.org/CodeSystem/consentscope",
                    "code": "patient-privacy",
                }
            ]
        },
        "category": [
            {"coding": [{"system": "http://loinc.org", "code": "59284-0"}]},
        ],
        "patient": patient,
        "policyRule": {
            "coding": [
                {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}
            ]
        },
        "provision": {"type": "permit", "actor": [actor]},
    }


def _create(fhir: str, resource: Resource) -> Resource:
    response = requests.post(
        f"{fhir}/{resource['resourceType']}",
        data=resource_json.format(resource),
        headers={"Content-Type": "application/fhir+json"},
        timeout=30,
    )
    if not response.ok:
        raise DemoError(f"{resource['resourceType']}: {response.status_code}")
    return resource_json.parse_resource(response.content)


def _all(fhir: str, resource_type: str, params: dict[str, str] | None = None) -> list[Resource]:
    asked = {"_count": "1000"} | (params or {})
    response = requests.get(f"{fhir}/{resource_type}", params=asked, timeout=30)
    if not response.ok:
        raise DemoError(f"{response.status_code} of {fhir}/{resource_type}")
    bundle = resource_json.parse_resource(response.content)
    return [entry["resource"] for entry in bundle.get("entry", [])]
