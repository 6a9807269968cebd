"""The insurer gets what Coverage and Consent say when it is sent, over both stores."""

import asyncio
import json
import socket
import subprocess
import sys
import time

import pytest
import requests

from fhir_server.core.identity import ResourceKey
from fhir_server.outbox.delivery_audit import DeliveryAudit
from fhir_server.outbox.ledger_check import check_ledger
from fhir_server.store.protocol import DeliveryState
from tests.contract.insurer_scene import (
    LOINC,
    OMS,
    ORGANIZATION,
    Scene,
    consent,
    coverage,
    goal,
    person,
    pressure,
)


@pytest.fixture(scope="module")
def insurer():
    """The URL of a process that plays the insurer."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "adapters.insurer.stand_in", "--port", str(port)]
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 30
    while True:
        try:
            requests.get(f"{url}/received", timeout=1)
            break
        except requests.ConnectionError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    yield url
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def _read_once(definitions, monkeypatch):
    """The definitions are the same for all scenes, and take longer to read than a test."""
    monkeypatch.setattr("fhir_server.app.load", lambda *_: definitions)


@pytest.fixture
def scene(store_kind, new_url, insurer):
    opened = Scene(new_url(store_kind), insurer)
    yield opened
    opened.sink.close()
    asyncio.run(opened.components.store.close())


def test_aggregates_arrive_and_no_value_no_name_no_id_of_ours(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent(), goal())
    scene.put(pressure(1, 120), pressure(2, 150), pressure(3, 139), pressure(4, 120, "2026-11-02"))
    scene.deliver()
    reports = scene.told()
    assert [each["resourceType"] for each in reports] == ["MeasureReport"] * 2
    october = next(each for each in reports if each["period"]["start"] == "2026-10-01")
    groups = {each["code"]["coding"][0]["code"]: each for each in october["group"]}
    assert groups["readings"]["population"][0]["count"] == 3
    assert groups["in-target"]["measureScore"]["value"] == 0.667
    text = json.dumps(reports)
    for secret in ("Secret", "Patient/p1", "r1", "150"):
        assert secret not in text
    assert set(scene.states().values()) == {"accepted"}
    assert scene.components.definitions.validator.check(october | {"id": "x"}) == ()


def test_sent_again_it_is_the_same_report(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent())
    scene.put(pressure(1))
    scene.deliver()
    scene.put(pressure(2))
    scene.deliver()
    (report,) = scene.told()
    assert report["group"][0]["population"][0]["count"] == 2


def test_nobody_elses_readings_are_queued(scene):
    other = coverage(payor=[{"display": "another"}])
    scene.put(person(), ORGANIZATION, other, consent(), pressure(1))
    scene.deliver()
    assert scene.states() == {}
    scene.put(coverage())
    scene.put(pressure(2))
    scene.deliver()
    assert scene.states() == {"Observation/o2/1": "accepted"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (consent("inactive"), "no active consent permits it"),
        (consent("entered-in-error"), "no active consent permits it"),
        (consent(period={"end": "2025-01-01"}), "no active consent permits it"),
        (consent(type="deny"), "a consent denies it"),
        (consent(purpose=[{"code": "HRESCH"}]), "no active consent permits it"),
        (coverage(status="cancelled"), "no active coverage by this insurer"),
        (coverage(period={"end": "2025-12-31"}), "no active coverage by this insurer"),
    ],
    ids=["withdrawn", "mistake", "over", "denied", "purpose", "cancelled", "ended"],
)
def test_what_changes_between_commit_and_delivery_stops_what_is_queued(scene, change, reason):
    scene.put(person(), ORGANIZATION, coverage(), consent(), pressure(1), pressure(2))
    scene.queue()
    assert set(scene.states().values()) == {"queued"}
    asked = scene.received()["requests"]
    scene.put(change)
    scene.deliver()
    assert scene.received()["requests"] == asked
    assert set(scene.states().values()) == {"withheld"}
    assert scene.reasons() == {reason}
    (receipt,) = scene.outbox.receipts("insurer", 0, 10)
    assert (receipt.state, len(receipt.lines)) == ("withheld", 2)


def test_a_consent_given_later_lets_a_retry_go(scene):
    scene.put(person(), ORGANIZATION, coverage(), pressure(1))
    scene.deliver()
    withheld = scene.outbox.list(None, (DeliveryState.WITHHELD,), 10, 0)
    scene.put(consent())
    assert scene.outbox.retry([each.delivery_id for each in withheld]) == 1
    scene.deliver()
    assert set(scene.states().values()) == {"accepted"}
    assert check_ledger(scene.outbox).faults == ()


def test_resources_go_only_where_a_consent_names_them(scene):
    glucose = pressure(2) | {"code": {"coding": [{"system": LOINC, "code": "14743-9"}]}}
    del glucose["component"]
    codes = [{"coding": [{"system": LOINC, "code": "85354-9"}]}]
    scene.put(person(), ORGANIZATION, coverage())
    scene.put(consent(provision=[{"type": "permit", "code": codes}]), pressure(1), glucose)
    scene.deliver()
    told = {each["resourceType"]: each for each in scene.told()}
    assert set(told) == {"MeasureReport", "Observation"}
    reading = told["Observation"]
    assert reading["identifier"] == [{"system": "urn:reading", "value": "r1"}]
    assert reading["subject"]["identifier"]["system"] == OMS["system"]
    assert not {"id", "device", "meta"} & set(reading)


def test_what_a_consent_denies_is_not_counted_either(scene):
    denied = [{"type": "deny", "code": [{"coding": [{"system": LOINC, "code": "14743-9"}]}]}]
    glucose = pressure(2) | {"code": {"coding": [{"system": LOINC, "code": "14743-9"}]}}
    scene.put(person(), ORGANIZATION, coverage(), consent(provision=denied))
    scene.put(pressure(1), glucose)
    scene.deliver()
    (report,) = scene.told()
    assert report["group"][0]["population"][0]["count"] == 1
    assert scene.states() == {"Observation/o1/1": "accepted", "Observation/o2/1": "withheld"}


def test_an_insurer_that_is_away_gets_it_later(scene):
    requests.post(f"{scene.insurer}/faults", json={"status": 503, "times": 1}, timeout=5)
    scene.put(person(), ORGANIZATION, coverage(), consent(), pressure(1))
    deadline = time.monotonic() + 10
    while set(scene.states().values()) != {"accepted"}:
        scene.deliver()
        assert time.monotonic() < deadline
    assert len(scene.told()) == 1


def test_every_outcome_is_an_audit_event_once(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent(), pressure(1))
    scene.deliver()
    scene.put(consent("inactive"), pressure(2))
    scene.deliver()
    while scene.audit.step():
        pass
    again = DeliveryAudit(scene.outbox, ["insurer"])
    assert again.step() == 0
    records = scene.sink._records
    events = list(records.search("AuditEvent", [("patient", "Patient/p1")], 10))
    assert sorted(event["subtype"][0]["code"] for event in events) == ["accepted", "withheld"]
    withheld = next(e for e in events if e["subtype"][0]["code"] == "withheld")
    assert withheld["outcomeDesc"] == "no active consent permits it"
    named = [entity["what"].get("reference") for entity in withheld["entity"]]
    assert named[:2] == ["Patient/p1", "Observation/o2/_history/1"]
    digests = {r.digest for r in scene.outbox.receipts("insurer", 0, 10)}
    assert withheld["entity"][-1]["detail"][0]["valueString"] in digests
    for event in events:
        assert scene.components.definitions.validator.check(event) == ()


def task(task_id="t1", code="data-request-query", **changes):
    return {
        "resourceType": "Task",
        "id": task_id,
        "status": "requested",
        "intent": "order",
        "code": {"coding": [{"code": code}]},
        "for": {"reference": "Patient/p1"},
        "requester": {"reference": "Organization/org"},
        "input": [
            {
                "type": {"coding": [{"code": "data-query"}]},
                "valueString": "Observation?patient=Patient/p1&date=ge2026-10-05",
            }
        ],
        **changes,
    }


NAMED = {"provision": [{"type": "permit", "class": [{"code": "Observation"}]}]}


def test_a_task_is_answered_with_what_the_consent_names(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent(**NAMED))
    scene.put(pressure(1, day="2026-09-01"), pressure(2), task())
    scene.deliver()
    answered = scene.read("Task", "t1")
    assert answered["status"] == "completed"
    reference = answered["output"][0]["valueReference"]["reference"]
    bundle = scene.read(*reference.split("/"))
    assert [each["resource"]["id"] for each in bundle["entry"]] == ["o2"]
    validator = scene.components.definitions.validator
    assert validator.check(answered) == ()
    assert validator.check(bundle) == ()
    assert scene.states()["Task/t1/1"] == "accepted"
    assert "Task/t1/2" not in scene.states()


@pytest.mark.parametrize(
    ("given", "asked", "reason"),
    [
        ([consent()], task(), "the consent permits aggregates only: ask for them by their code"),
        ([], task(), "no active consent permits it"),
        ([consent(type="deny")], task(), "no active consent permits it"),
        ([consent(**NAMED), coverage(status="cancelled")], task(), "no active coverage"),
        ([consent(**NAMED)], task(**{"for": {"reference": "Patient/no"}}), "Task.for is no"),
        ([consent(**NAMED)], task(input=[]), "Task.input is no"),
    ],
    ids=["aggregates-only", "no-consent", "denied", "no-coverage", "nobody", "nothing-asked"],
)
def test_a_task_is_refused_with_the_reason(scene, given, asked, reason):
    scene.put(person(), ORGANIZATION, coverage(), pressure(1), *given)
    scene.put(asked)
    scene.deliver()
    answered = scene.read("Task", "t1")
    assert answered["status"] == "rejected"
    assert answered["statusReason"]["text"].startswith(reason)
    assert "output" not in answered
    assert scene.states()["Task/t1/1"] == "withheld"


BEYOND = (
    "Observation?patient=Patient/p2",
    "Observation?subject:Patient=p1",
    "Observation?patient.name=x",
    "Observation?_has:x:y=1",
    "Observation?_include=*",
    "Patient?_id=p1",
    "Consent",
)


def test_a_query_does_not_reach_beyond_the_patient(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent(**NAMED), pressure(1))
    kind = {"coding": [{"code": "data-query"}]}
    for number, query in enumerate(BEYOND):
        scene.put(task(f"t{number}", input=[{"type": kind, "valueString": query}]))
    scene.deliver()
    for number, query in enumerate(BEYOND):
        assert scene.read("Task", f"t{number}")["status"] == "rejected", query


def test_aggregates_are_asked_for_by_their_code(scene):
    concept = {
        "coding": [{"system": "https://pmp.example/fhir/Measure", "code": "home-monitoring"}]
    }
    item = {"type": {"coding": [{"code": "data-code"}]}, "valueCodeableConcept": concept}
    period = {"start": "2026-10-01", "end": "2026-10-31"}
    scene.put(person(), ORGANIZATION, coverage(), consent(), pressure(1), goal())
    scene.put(task(code="data-request-code", input=[item], restriction={"period": period}))
    scene.deliver()
    answered = scene.read("Task", "t1")
    assert answered["status"] == "completed", answered
    bundle = scene.read(*answered["output"][0]["valueReference"]["reference"].split("/"))
    (report,) = (each["resource"] for each in bundle["entry"])
    assert report["resourceType"] == "MeasureReport"
    assert report["period"] == period


def test_a_task_of_somebody_else_is_not_ours(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent())
    scene.put(task(requester={"display": "another"}), task("t2", status="draft"))
    scene.deliver()
    assert scene.states() == {}


def test_a_task_that_was_answered_before_a_crash_is_not_answered_again(scene):
    scene.put(person(), ORGANIZATION, coverage(), consent(**NAMED), pressure(1), task())
    scene.queue()
    (request,) = (v for v in [scene.outbox.read(ResourceKey("Task", "t1"))])
    scene.sink.deliver([request], "key")
    scene.deliver()
    assert scene.outbox.read(ResourceKey("Task", "t1")).version_id == 2
    assert scene.states()["Task/t1/1"] == "accepted"


def test_news_alone_says_nothing_of_what(store_kind, new_url, insurer):
    scene = Scene(new_url(store_kind), insurer, send="id-only")
    scene.put(person(), ORGANIZATION, coverage(), consent(), pressure(1, 150))
    scene.deliver()
    (told,) = scene.told()
    assert told["resourceType"] == "Communication"
    assert "150" not in json.dumps(told)
    scene.sink.close()
    asyncio.run(scene.components.store.close())
