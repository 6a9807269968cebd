"""Answers: not larger than they may be, not deeper than can be read, not made for nobody."""

import asyncio
import threading
import time

import pytest
import requests

from fhir_server.errors import TooCostly
from fhir_server.rest.fair_share import ClientLimits, FairShare
from fhir_server.store.sqlite.reader import Clocked
from tests.conformance.conftest import Client, Server


def test_an_answer_over_the_limit_is_refused_and_a_smaller_page_is_not(unique):
    with Server(max_answer_bytes=20_000) as server:
        client = Client(server)
        for _ in range(10):
            client.create({"resourceType": "Patient", "name": [{"text": unique + "x" * 4_000}]})
        refused = client.get("Patient")
        assert refused.status_code == 422
        assert client.issues(refused)[0]["code"] == "too-costly"
        posted = client.send("POST", "Patient/_search", data={"gender:missing": "true"})
        assert posted.status_code == 422
        assert client.get("Patient?_count=2").status_code == 200
        # What was done is told, however long it takes.
        patient = {"resourceType": "Patient", "name": [{"text": "x" * 9_000}]}
        entry = {"request": {"method": "POST", "url": "Patient"}, "resource": patient}
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * 4}
        headers = {"Prefer": "return=representation"}
        assert client.post("", bundle, headers=headers).status_code == 200


DEEP = 5_000


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        ("[" * 200_000, "application/fhir+json"),
        ('{"resourceType":"Basic","extension":[' * DEEP, "application/fhir+json"),
        ('{"resourceType":"Basic","x":' + '{"a":' * DEEP + "1" + "}" * DEEP + "}",
         "application/fhir+json"),
        ('{"resourceType":"Basic","code":{"text":"x"},"extension":[' + '{"url":"u","extension":['
         * 300 + '{"url":"u","valueString":"x"}' + "]}" * 300 + "]}", "application/fhir+json"),
        ('<Basic xmlns="http://hl7.org/fhir">' + '<extension url="u">' * DEEP,
         "application/fhir+xml"),
        ('<Basic xmlns="http://hl7.org/fhir"><text><div xmlns="http://www.w3.org/1999/xhtml">'
         + "<p>" * DEEP + "</p>" * DEEP + "</div></text></Basic>", "application/fhir+xml"),
    ],
    ids=["arrays", "cut short", "objects", "extensions", "XML", "narrative"],
)  # fmt: skip
def test_what_is_nested_too_deeply_is_refused(client, body, media_type):
    answer = client.send("POST", "Basic", data=body, headers={"Content-Type": media_type})
    assert answer.status_code in (400, 422)
    assert b"exception" not in answer.content


def test_a_question_is_dropped_when_its_client_has_gone():
    seen = []

    async def app(scope, receive, send):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def scene():
        gone = asyncio.Event()

        async def receive():
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            seen.append(message)

        scope = {"type": "http", "method": "GET", "path": "/fhir/Patient", "headers": [],
                 "client": ("192.0.2.1", 1)}  # fmt: skip
        share = FairShare(app, ClientLimits(at_once=1))
        asking = asyncio.create_task(share(scope, receive, send))
        asyncio.get_running_loop().call_later(1.2, gone.set)
        await asyncio.wait_for(asking, 5)
        # The place is free again.
        again = asyncio.create_task(share(scope, receive, send))
        await asyncio.wait_for(again, 5)

    asyncio.run(scene())
    assert seen == ["cancelled", "cancelled"]


def test_a_statement_that_nobody_wants_any_more_is_interrupted():
    import sqlite3

    clocked = Clocked(sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None))
    clocked.unwanted = threading.Event()
    threading.Timer(0.1, clocked.unwanted.set).start()
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT max(x) FROM n"
    begun = time.monotonic()
    with pytest.raises(TooCostly):
        clocked.run(lambda connection: connection.execute(endless).fetchone(), 30)
    assert time.monotonic() - begun < 5
    clocked.connection.close()


def test_who_is_refused_is_told_in_fhir(server):
    answer = requests.get(f"{server.fhir}/Patient?name[$ne]=x", timeout=5,
                          headers={"Prefer": "handling=strict"})  # fmt: skip
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"
