"""Health, metrics and request ids, as an operator and their tools see them."""

import asyncio
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
import structlog
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from starlette.responses import PlainTextResponse

from fhir_server.errors import StoreUnavailable
from fhir_server.rest.draining import Draining
from fhir_server.rest.metrics import OutboxGauges
from fhir_server.rest.request_id import RequestIds
from fhir_server.store.protocol import DeliveryState


def samples(server):
    """Every sample of /metrics: name, then labels as a frozenset, to its value."""
    answer = requests.get(f"{server.url}/metrics", timeout=10)
    assert answer.status_code == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def value(found, name, **labels):
    return found.get((name, frozenset(labels.items())), 0.0)


def settled(server, check):
    """`check` of the samples, once it holds: counting follows the answer by a moment."""
    deadline = time.monotonic() + 5
    while not check(found := samples(server)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def test_a_server_that_can_commit_is_live_and_ready(server):
    live = requests.get(f"{server.url}/health/live", timeout=10)
    ready = requests.get(f"{server.url}/health/ready", timeout=10)
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "mapping_faults": []})


def test_requests_are_counted_by_interaction_method_and_status(server, client):
    labels = {"interaction": "read", "method": "GET", "status": "404"}
    before = value(samples(server), "fhir_server_requests_total", **labels)
    for number in range(3):
        client.get(f"Patient/not-there-{number}")
    after = settled(
        server,
        lambda found: value(found, "fhir_server_requests_total", **labels) == before + 3,
    )
    seconds = [
        found
        for found in after
        if found[0] == "fhir_server_request_seconds_bucket"
        and ("interaction", "read") in found[1]
        and ("le", "+Inf") in found[1]
    ]
    assert after[seconds[0]] >= 3


def test_commits_and_their_versions_are_counted(server, client, unique):
    before = samples(server)
    for _ in range(4):
        client.create({"resourceType": "Patient", "identifier": [{"value": unique}]})
    count, versions, total = (
        "fhir_server_commit_seconds_count",
        "fhir_server_commit_versions_total",
        "fhir_server_commit_decisions_sum",
    )
    after = settled(server, lambda found: value(found, versions) >= value(before, versions) + 4)
    assert value(after, count) > value(before, count)
    assert value(after, total) >= value(before, total) + 4


def test_readings_are_counted_by_mapping_and_verdict(server):
    labels = {"mapping": "iot-hub", "verdict": "quarantined"}
    before = value(samples(server), "fhir_server_readings_total", **labels)
    payload = {
        "type": "Heart Rate",
        "time": "2024-01-02T03:04:05Z",
        "device": "of-nobody",
        "values": {"beatsPerMinute": 60},
    }
    requests.post(f"{server.url}/readings/iot-hub", json=payload, timeout=10).raise_for_status()
    after = samples(server)
    assert value(after, "fhir_server_readings_total", **labels) == before + 1


def test_no_label_repeats_what_a_client_sent(server, client):
    client.get("Patient/Ivanova-1958")
    client.get("Patient?family=Ivanova-1958")
    requests.get(f"{server.url}/Ivanova-1958", timeout=10)
    requests.post(f"{server.url}/readings/Ivanova-1958", json={}, timeout=10)
    requests.request("IVANOVA", f"{server.url}/fhir/Patient", timeout=10)
    for method in ("PROPFIND", "TRACE"):
        requests.request(method, f"{server.url}/fhir/Patient", timeout=10)
    text = requests.get(f"{server.url}/metrics", timeout=10).text
    assert "ivanova" not in text.lower()
    methods = set(re.findall(r'method="([^"]*)"', text))
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_metrics_are_openmetrics_for_who_asks_for_it(server):
    answer = requests.get(
        f"{server.url}/metrics", headers={"Accept": "application/openmetrics-text"}, timeout=10
    )
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


@pytest.mark.parametrize("path", ["/fhir/metadata", "/fhir/Patient/none", "/nowhere", "/docs"])
def test_every_answer_has_a_request_id_of_its_own(server, path):
    ids = {
        requests.get(f"{server.url}{path}", timeout=10).headers["X-Request-Id"] for _ in range(3)
    }
    assert len(ids) == 3


def test_the_clients_ids_come_back(server):
    sent = {"X-Request-Id": "7c9e6679-7425-40de-944b", "X-Correlation-Id": "flow/42"}
    answer = requests.get(f"{server.url}/fhir/metadata", headers=sent, timeout=10)
    assert {name: answer.headers[name] for name in sent} == sent


@pytest.mark.parametrize("unfit", ["two words", "x" * 129, 'a"b', "a\tb", "{}", "é"])
def test_an_id_that_does_not_fit_the_log_is_replaced(server, unfit):
    sent = {
        "X-Request-Id": unfit.encode("latin-1"),
        "X-Correlation-Id": unfit.encode("latin-1"),
    }
    answer = requests.get(f"{server.url}/health/live", headers=sent, timeout=10)
    assert re.fullmatch("[0-9a-f]{18,}", answer.headers["X-Request-Id"])
    assert "X-Correlation-Id" not in answer.headers


NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
PERSONAL = "Ivanova, born 1958"


class Outbox:
    """As much of an outbox as is counted; `gate` holds an answer back."""

    def __init__(self, counted, oldest=None):
        self.counted = counted
        self.oldest = oldest
        self.asked = 0
        self.gate = threading.Event()
        self.gate.set()

    def counts(self):
        self.asked += 1
        self.gate.wait(10)
        if self.counted is None:
            raise StoreUnavailable("away")
        return self.counted

    def oldest_due(self):
        return self.oldest


def read(gauges):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in asyncio.run(gauges.read())
        for sample in family.samples
    }


def test_the_outbox_is_told_by_sink_and_state_with_its_age():
    counted = {("registry", DeliveryState.QUEUED): 3, ("registry", DeliveryState.PARKED): 1}
    found = read(OutboxGauges(Outbox(counted, NOW - timedelta(seconds=90)), lambda: NOW))
    assert found["fhir_server_outbox_up",] == 1
    assert found["fhir_server_outbox_oldest_seconds",] == 90
    assert found["fhir_server_outbox_deliveries", "registry", "queued"] == 3
    assert found["fhir_server_outbox_deliveries", "registry", "parked"] == 1
    # A state that nothing is in is a zero: an alert on its growth needs the series.
    assert found["fhir_server_outbox_deliveries", "registry", "sent"] == 0


def test_an_outbox_that_cannot_be_counted_is_no_empty_one():
    found = read(OutboxGauges(Outbox(None), lambda: NOW))
    assert found == {("fhir_server_outbox_up",): 0}


def test_scrapers_share_one_count_and_wait_no_longer_than_they_may():
    outbox = Outbox({})
    outbox.gate.clear()
    gauges = OutboxGauges(outbox, lambda: NOW, patience=0.05)

    async def scrape():
        first = await asyncio.gather(*(gauges.read() for _ in range(5)))
        outbox.gate.set()
        await asyncio.sleep(0.1)
        return first, await gauges.read()

    first, last = asyncio.run(scrape())
    assert outbox.asked == 1
    assert all(family[0].samples[0].value == 0 for family in first)
    assert last[0].samples[0].value == 1


def answered(app, draining=None):
    """What `app` behind the middleware sends for one GET."""
    sent = []

    async def send(message):
        sent.append(message)

    async def ask():
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "app": FastAPI()}
        await RequestIds(app, draining or Draining())(scope, None, send)

    asyncio.run(ask())
    return sent


def test_an_unexpected_error_tells_and_logs_no_more_than_an_id(caplog):
    async def app(scope, receive, send):
        raise ValueError(PERSONAL)

    start, body = answered(app)
    outcome = json.loads(body["body"])
    assert start["status"] == 500
    assert dict(start["headers"])[b"x-request-id"]
    assert outcome["issue"][0]["code"] == "exception"
    assert "Ivanova" not in caplog.text + body["body"].decode()
    log_id = outcome["issue"][0]["diagnostics"].split()[-1]
    assert log_id in caplog.text


def test_an_answer_that_was_begun_is_cut_and_not_finished_with_an_error(caplog):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(PERSONAL)

    (start,) = answered(app)
    assert start["status"] == 200
    assert "Ivanova" not in caplog.text


def test_a_draining_process_ends_each_connection():
    async def app(scope, receive, send):
        await PlainTextResponse("ok")(scope, receive, send)

    draining = Draining()
    assert (b"connection", b"close") not in answered(app, draining)[0]["headers"]
    draining.is_on = True
    assert (b"connection", b"close") in answered(app, draining)[0]["headers"]


def test_every_line_of_a_request_has_its_id():
    seen = []

    async def app(scope, receive, send):
        seen.append(structlog.contextvars.get_contextvars()["request_id"])
        await PlainTextResponse("ok")(scope, receive, send)

    start, _ = answered(app)
    assert dict(start["headers"])[b"x-request-id"].decode() == seen[0]
