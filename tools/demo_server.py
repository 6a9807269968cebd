"""A demo that runs, and everything that can be asked of it as resources."""

import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests

Json = dict[str, Any]

_FHIR = {"Accept": "application/fhir+json", "Content-Type": "application/fhir+json"}
_SETS = "http://hl7.org/fhir/ValueSet"
_LOINC, _MDC = "http://loinc.org", "urn:iso:std:iso:11073:10101"
_GENDER = "http://hl7.org/fhir/administrative-gender"

_PULSE = "8867-4"
_NAMED = (
    *("CarePlan", "DetectedIssue", "Observation", "Patient", "Practitioner", "Subscription"),
    "ValueSet",
)
_QUESTIONS = {
    "metadata": "metadata",
    "terminology": "metadata?mode=terminology",
    "searchset": "Observation?_include=Observation:device&_count=5",
    "searchset-system": "?_type=Patient,Device&_count=5",
    "searchset-summary": "Patient?_summary=true",
    "history": "Device/_history",
    "everything": "Patient/{Patient}/$everything",
    "lastn": "Observation/$lastn?patient={Patient}&category=vital-signs",
    "stats": f"Observation/$stats?subject={{Pulse}}&code={_PULSE}&system=http://loinc.org&statistic=average",
    "adherence": "CarePlan/{CarePlan}/$adherence",
    "meta": "Observation/{Observation}/$meta",
    "home-blood-pressure": "Patient/{Patient}/$home-blood-pressure?start=2018-03-01&end=2018-04-30",
    "lookup": f"CodeSystem/$lookup?system={_LOINC}&code=8480-6",
    "validate-code": f"ValueSet/$validate-code?url={_SETS}/observation-status&code=final",
    "subsumes": f"CodeSystem/$subsumes?system={_GENDER}&codeA=male&codeB=female",
    "expand": "ValueSet/{ValueSet}/$expand",
    "translate": f"ConceptMap/$translate?system={_LOINC}&code=8480-6&targetsystem={_MDC}",
    "status": "Subscription/{Subscription}/$status",
    "validate-stored": "Observation/{Observation}/$validate",
    "not-found": "Patient/nobody",
    "wrong-search": "Patient?birthdate=x",
}
# Each made of what the demo holds: the ids stand for the first resource of a type.
_POSTED: dict[str, tuple[str, Json]] = {
    "acknowledge": (
        "DetectedIssue/{DetectedIssue}/$acknowledge",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "author", "valueReference": {"reference": "Practitioner/{Practitioner}"}},
                {"name": "comment", "valueString": "Позвонили"},
            ],
        },
    ),
    "subscription": (
        "Subscription",
        {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "To be told",
            "criteria": "Observation?status=final",
            "channel": {
                "type": "rest-hook",
                "endpoint": "https://receiver.example/hook",
                "payload": "application/fhir+json",
            },
        },
    ),
    "value-set": (
        "ValueSet",
        {
            "resourceType": "ValueSet",
            "url": "https://pmp.example/fhir/ValueSet/example",
            "version": "1",
            "name": "Example",
            "status": "active",
            "description": "The pressures of a blood pressure",
            "compose": {
                "include": [{"system": _LOINC, "concept": [{"code": "8480-6"}, {"code": "8462-4"}]}]
            },
        },
    ),
    "closure": (
        "$closure",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "name", "valueString": "mine"},
                {"name": "concept", "valueCoding": {"system": _GENDER, "code": "male"}},
            ],
        },
    ),
    "batch": (
        "",
        {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [{"request": {"method": "GET", "url": "Patient?_count=1"}}],
        },
    ),
    "invalid": ("Patient/$validate", {"resourceType": "Patient", "gender": "x", "wrong": 1}),
}


@contextmanager
def running_demo() -> Iterator[str]:
    """The FHIR base of a demo that has done all it shows; it ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="fhir-examples-") as folder:
        demo = subprocess.Popen(
            [sys.executable, "-m", "fhir_server", "demo", "--port", str(port)],
            cwd=folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            said = []
            for line in demo.stdout or ():
                said.append(line)
                if "Serving until" in line:
                    break
            else:
                raise RuntimeError("the demo did not come so far:\n" + "".join(said))
            yield f"http://127.0.0.1:{port}/fhir"
        finally:
            demo.send_signal(signal.SIGTERM)
            demo.communicate(timeout=60)


def answers(server: str) -> Iterator[tuple[str, Json]]:
    """A name and a resource for everything that `server` holds or answers."""
    ids = _ids(server)
    for template in _all(server, "PlanDefinition"):
        path = f"{server}/PlanDefinition/{template['id']}/$apply"
        subject = {"name": "subject", "valueString": f"Patient/{ids['Patient']}"}
        body = {"resourceType": "Parameters", "parameter": [subject]}
        yield f"answer-apply-{template['id']}", _send("POST", path, body)
    for name, (path, resource) in _POSTED.items():
        body = json.loads(_filled(json.dumps(resource), ids))
        yield f"answer-{name}", _send("POST", f"{server}/{_filled(path, ids)}", body)
    ids = _ids(server)
    for name, path in _QUESTIONS.items():
        yield f"answer-{name}", _send("GET", f"{server}/{_filled(path, ids)}")
    for resource_type in _types(server):
        for resource in _all(server, resource_type):
            # R4's own definitions keep the rules of their own time.
            if not str(resource.get("url")).startswith("http://hl7.org/"):
                yield f"stored-{resource_type}-{resource['id']}", resource


def _types(server: str) -> list[str]:
    statement = _send("GET", f"{server}/metadata")
    return [each["type"] for each in statement["rest"][0]["resource"]]


def _ids(server: str) -> dict[str, str]:
    """One id for each type of which there is anything."""
    found = {}
    for resource_type in _NAMED:
        for resource in _all(server, resource_type)[:1]:
            found[resource_type] = resource["id"]
    for resource in _all(server, "Observation"):
        if resource["code"].get("coding", [{}])[0].get("code") == _PULSE:
            found["Pulse"] = resource["subject"]["reference"]
    return found


def _filled(text: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        text = text.replace("{" + name + "}", value)
    return text


def _all(server: str, resource_type: str) -> list[Json]:
    found = []
    url: str | None = f"{server}/{resource_type}?_count=500"
    while url:
        bundle = _send("GET", url)
        found += [entry["resource"] for entry in bundle.get("entry", ())]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), None)
    return found


def _send(method: str, url: str, body: Json | None = None) -> Json:
    response = requests.request(method, url, json=body, headers=_FHIR, timeout=60)
    answer: Json = response.json()
    return answer
