"""Another terminology server: asked for what is not known here, missed clearly when away."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conformance.conftest import Client, Server

SCT = "http://snomed.info/sct"
CUFF = "70665002"


def answer(path, query):
    if path.endswith("ValueSet/$expand") and query["url"] == ["urn:far:set"]:
        contains = [{"system": SCT, "code": CUFF, "display": "Cuff"}]
        return {"resourceType": "ValueSet", "expansion": {"total": 1, "contains": contains}}
    if path.endswith("CodeSystem/$lookup") and query["system"] == [SCT]:
        parameter = [{"name": "display", "valueString": "Cuff"}]
        return {"resourceType": "Parameters", "parameter": parameter}
    return None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlsplit(self.path)
        self.server.asked.append(parts.path)
        found = answer(parts.path, parse_qs(parts.query))
        body = json.dumps(found or {"resourceType": "OperationOutcome"}).encode()
        self.send_response(self.server.status or (200 if found else 404))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def far():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.status = [], None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def here(far):
    with Server(terminology_server=f"http://127.0.0.1:{far.server_port}/fhir") as server:
        yield Client(server)


def test_what_is_not_known_here_is_asked_there_and_kept(here, far):
    query = {"system": SCT, "code": CUFF}
    for _ in range(3):
        found = here.get("CodeSystem/$lookup", params=query).json()
        assert found["parameter"] == [{"name": "display", "valueString": "Cuff"}]
    assert far.asked == ["/fhir/CodeSystem/$lookup"]


def test_a_set_of_the_other_server_serves_operations_and_searches(here):
    expanded = here.get("ValueSet/$expand", params={"url": "urn:far:set"}).json()
    assert [each["code"] for each in expanded["expansion"]["contains"]] == [CUFF]
    coding = {"system": SCT, "code": CUFF}
    made = here.create({"resourceType": "Device", "type": {"coding": [coding]}})
    assert here.found("Device?type:in=urn:far:set") == [f"Device/{made['id']}"]
    query = {"url": "urn:far:set", **coding}
    found = here.get("ValueSet/$validate-code", params=query).json()
    assert {"name": "result", "valueBoolean": True} in found["parameter"]


def test_what_nobody_knows_is_not_found(here):
    response = here.get("CodeSystem/$lookup", params={"system": "urn:nowhere", "code": "1"})
    assert response.status_code == 404


def test_what_is_known_here_is_not_asked_there(here, far):
    query = {"system": "http://hl7.org/fhir/administrative-gender", "code": "male"}
    assert here.get("CodeSystem/$lookup", params=query).status_code == 200
    assert far.asked == []


def test_a_server_in_trouble_is_said_and_not_kept(here, far):
    query = {"system": SCT, "code": CUFF}
    far.status = 500
    response = here.get("CodeSystem/$lookup", params=query)
    assert response.status_code == 503
    assert response.headers["Retry-After"]
    assert here.issues(response)[0]["code"] == "transient"
    far.status = None
    assert here.get("CodeSystem/$lookup", params=query).status_code == 200


def test_a_server_that_is_away_is_said():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Server(terminology_server=f"http://127.0.0.1:{port}") as server:
        here = Client(server)
        response = here.get("CodeSystem/$lookup", params={"system": SCT, "code": CUFF})
        assert response.status_code == 503
        known = {"system": "http://hl7.org/fhir/administrative-gender", "code": "male"}
        assert here.get("CodeSystem/$lookup", params=known).status_code == 200
