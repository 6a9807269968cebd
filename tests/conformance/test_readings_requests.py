"""POST /readings: what a request may hold, and which are refused."""

import gzip
import json

import pytest
import requests

from tests.conformance.ward import pulse


def test_a_list_of_readings_is_decided_whole(ward):
    _, _, serial = ward.kit()
    lines = [
        pulse(serial, f"2024-03-{d:02d}T08:{m:02d}:00Z") for d in range(1, 29) for m in range(60)
    ]
    answer = ward.send_lines(lines)
    assert answer["accepted"] == len(lines) == len(answer["results"])
    assert [r["index"] for r in answer["results"]] == list(range(len(lines)))
    again = ward.send_lines(lines)
    assert again["duplicate"] == len(lines)
    assert [r["resources"] for r in again["results"]] == [r["resources"] for r in answer["results"]]


def test_gzip_is_welcome_in_both_forms(ward):
    _, _, serial = ward.kit()
    body = gzip.compress(json.dumps(pulse(serial)).encode())
    zipped = {"Content-Encoding": "gzip"}
    assert ward.verdict(body, headers=zipped)["verdict"] == "accepted"
    lines = {"Content-Type": "application/x-ndjson", **zipped}
    assert ward.verdict(body, headers=lines)["verdict"] == "duplicate"


@pytest.mark.parametrize(
    ("body", "headers", "params", "status"),
    [
        (b"{", {}, {}, 400),
        (b"", {}, {}, 400),
        (b'"\xff"', {}, {}, 400),
        (b"[" * 100_000, {}, {}, 400),
        (b"{}", {"Content-Encoding": "gzip"}, {}, 400),
        (b"{}", {"Content-Encoding": "br"}, {}, 415),
        (b"{}", {"Content-Type": "text/csv"}, {}, 415),
        (b"{}", {"X-Gateway-Time": "yesterday"}, {}, 400),
        (b"{}", {"X-Gateway-Time": "2024-03-10T08:00:00"}, {}, 400),
        (b"{}", {}, {"device": "system|"}, 400),
        (b"{}", {}, {"devise": "system|1"}, 400),
        (b"{}", {}, {"device": ["a", "b"]}, 400),
    ],
)
def test_a_request_that_cannot_be_understood_is_refused(ward, body, headers, params, status):
    answer = ward.send(body, headers=headers, **params)
    assert answer.status_code == status, answer.text
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_mapping_that_is_not_there_is_not_found(ward):
    assert ward.send({}, mapping="none-such").status_code == 404


def test_an_enrolment_mapping_reads_no_readings(ward):
    assert ward.send({}, mapping="device-kit").status_code == 404


@pytest.mark.parametrize("path", ["readings/iot-hub", "enrolments/device-kit"])
def test_another_method_is_refused_with_an_outcome_and_the_method_there_is(ward, path):
    answer = requests.get(f"{ward.root}/{path}", timeout=30)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_a_body_over_the_limit_is_refused(ward):
    answer = ward.send(b'"' + b"x" * (17 * 1024 * 1024) + b'"')
    assert answer.status_code == 413


def test_an_empty_list_of_lines_is_decided_with_nothing(ward):
    answer = ward.send_lines([b"", b"  "])
    assert answer["results"] == []
