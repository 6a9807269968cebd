"""HTTP itself: methods, formats, limits, errors. https://hl7.org/fhir/R4/http.html."""

import gzip
import http.client
import json

import pytest
import requests

PATIENT = {"resourceType": "Patient", "gender": "female"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "Patient", {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}),
        ("POST", "Patient/1", {"GET", "HEAD", "PUT", "PATCH", "DELETE"}),
        ("DELETE", "Patient/_history", {"GET", "HEAD"}),
        ("DELETE", "", {"GET", "HEAD", "POST"}),
        ("GET", "Patient/_search", {"POST"}),
        ("DELETE", "metadata", {"GET", "HEAD"}),
        ("PUT", "Patient/1/_history/1", {"GET", "HEAD"}),
    ],
)
def test_method_that_is_not_done_names_those_that_are(client, method, path, allowed):
    response = client.send(method, path)
    assert response.status_code == 405
    assert set(response.headers["Allow"].split(", ")) == allowed
    assert client.issues(response)[0]["code"] == "not-supported"


@pytest.mark.parametrize(
    "path", ["Patient/1/2/3/4", "Patient//1", "$nothing", "Patient/$nothing", "_nothing", "a/b/c"]
)
def test_path_that_is_not_there_is_told_in_fhir(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["Content-Type"].startswith("application/fhir+json")
    assert client.issues(response)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/fhir+json", "application/fhir+json; charset=utf-8"),
        ("application/json", "application/json; charset=utf-8"),
        ("*/*", "application/fhir+json; charset=utf-8"),
    ],
)
def test_answer_is_in_a_format_the_client_accepts(client, accept, content_type):
    response = client.get("Patient?_count=1", headers={"Accept": accept})
    assert response.headers["Content-Type"] == content_type


def test_format_parameter_wins_over_accept(client):
    headers = {"Accept": "application/fhir+xml"}
    found = client.get("Patient?_format=json", headers=headers)
    assert found.headers["Content-Type"] == "application/fhir+json; charset=utf-8"


def test_format_that_is_not_known_is_refused_clearly(client):
    response = client.get("Patient", headers={"Accept": "text/turtle"})
    assert response.status_code == 406
    assert client.issues(response)[0]["code"] == "not-supported"
    headers = {"Content-Type": "text/turtle"}
    response = client.send("POST", "Patient", data="x", headers=headers)
    assert response.status_code == 415
    assert client.issues(response)[0]["code"] == "not-supported"


def test_pretty_is_indented_and_the_same(client):
    stored = client.create({**PATIENT, "multipleBirthInteger": 2})
    plain = client.get(f"Patient/{stored['id']}")
    pretty = client.get(f"Patient/{stored['id']}?_pretty=true")
    assert pretty.json() == plain.json()
    assert b"\n  " in pretty.content
    assert int(pretty.headers["Content-Length"]) == len(pretty.content)


def test_gzip_body_is_read(client):
    response = client.send(
        "POST",
        "Patient",
        data=gzip.compress(json.dumps(PATIENT).encode()),
        headers={"Content-Type": "application/fhir+json", "Content-Encoding": "gzip"},
    )
    assert response.status_code == 201


def test_large_answer_is_compressed_and_a_small_one_is_not(client):
    big = {**PATIENT, "name": [{"text": "x" * 100} for _ in range(500)]}
    stored = client.create(big)
    large = client.get(f"Patient/{stored['id']}", headers={"Accept-Encoding": "gzip"})
    assert large.headers["Content-Encoding"] == "gzip"
    assert large.json() == stored
    plain = client.get(f"Patient/{stored['id']}", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    small = client.get("Patient/none-such", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in small.headers


def test_body_over_the_limit_is_refused(client):
    body = b'{"resourceType":"Patient","gender":"' + b"x" * (17 * 1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/fhir+json"}
    try:
        response = client.send("POST", "Patient", data=body, headers=headers)
    except requests.ConnectionError:
        pytest.skip("the server hung up before the client had sent all: allowed")
    assert response.status_code == 413
    bomb = gzip.compress(b" " * (64 * 1024 * 1024))
    response = client.send(
        "POST", "Patient", data=bomb, headers={**headers, "Content-Encoding": "gzip"}
    )
    assert response.status_code == 413


def test_forwarded_host_of_a_stranger_is_not_believed(client):
    headers = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https"}
    response = client.post("Patient", PATIENT, headers=headers)
    assert response.headers["Location"].startswith(client.base)


def test_query_string_that_is_not_utf_8_is_refused(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
    connection.request("GET", "/fhir/Patient?name=%ff")
    assert connection.getresponse().status == 400
    connection.close()


def test_error_of_another_route_is_told_in_fhir_too(server):
    response = requests.post(f"{server.url}/readings/none-such", json={}, timeout=10)
    assert response.status_code == 404
    assert response.json()["resourceType"] == "OperationOutcome"
