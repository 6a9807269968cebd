"""`fhir-server readings`: what a person at the command line sends and sees."""

import gzip
import json
import re
import socket
from itertools import count

import pytest
import requests
from typer.testing import CliRunner

from fhir_server.cli import readings

NUMBERS = count(1)
SERIAL = "https://maker.example/cli-serial"


@pytest.fixture
def run(server, monkeypatch):
    """The exit code, and what was printed, of a command on the running server."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(readings, "_TRIES", 1)

    def run(*arguments, url=server.url):
        result = CliRunner().invoke(readings.app, [*map(str, arguments), "--server", url])
        return result.exit_code, result.output

    return run


@pytest.fixture
def serial(server):
    """A device that a patient has."""
    value = f"cli-{next(NUMBERS)}"

    def create(resource):
        answer = requests.post(
            f"{server.fhir}/{resource['resourceType']}", json=resource, timeout=30
        )
        assert answer.status_code == 201, answer.text
        return f"{resource['resourceType']}/{answer.json()['id']}"

    patient = create({"resourceType": "Patient"})
    device = create({"resourceType": "Device", "identifier": [{"system": SERIAL, "value": value}]})
    create(
        {
            "resourceType": "DeviceUseStatement",
            "status": "active",
            "subject": {"reference": patient},
            "device": {"reference": device},
            "timingPeriod": {"start": "2024-01-01"},
        }
    )
    return value


def pulse(serial, minute, **more):
    return {
        "type": "Heart Rate",
        "time": f"2024-03-10T{minute // 60:02d}:{minute % 60:02d}:00Z",
        "device": serial,
        "values": {"beatsPerMinute": 66},
        **more,
    }


def counts(output):
    rows = (line.replace("│", " ").split() for line in output.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def test_files_of_every_form_are_sent_and_their_verdicts_told(run, serial, tmp_path):
    one = tmp_path / "one.json"
    one.write_text(json.dumps(pulse(serial, 0)))
    lines = "\n".join(json.dumps(pulse(serial, minute)) for minute in range(5))
    many = tmp_path / "many.ndjson"
    many.write_text(lines)
    zipped = tmp_path / "many.ndjson.gz"
    zipped.write_bytes(gzip.compress(lines.encode()))
    code, output = run("send", one, many, zipped, "--mapping", "iot-hub")
    assert code == 0, output
    told = counts(output)
    assert (told["accepted"], told["duplicate"], told["quarantined"]) == (5, 6, 0)


def test_what_was_held_back_is_told_with_its_file_and_line(run, serial, tmp_path):
    lines = tmp_path / "lines.ndjson"
    lines.write_text(f"{json.dumps(pulse(serial, 9))}\n\n{{broken\n")
    code, output = run("send", lines, "--mapping", "iot-hub")
    assert code == 0, output
    assert "lines.ndjson:3: quarantined malformed-payload" in output.replace("\n", "")


def test_lines_of_a_long_file_keep_their_numbers_over_requests(run, serial, tmp_path, monkeypatch):
    monkeypatch.setattr(readings, "_PORTION_LINES", 10)
    lines = tmp_path / "long.ndjson"
    rows = [json.dumps(pulse(serial, minute)) for minute in range(100, 135)]
    rows[27] = "{"
    lines.write_text("\n".join(rows))
    code, output = run("send", lines, "--mapping", "iot-hub")
    assert code == 0, output
    assert counts(output)["accepted"] == 34
    assert "long.ndjson:28: quarantined" in output.replace("\n", "")


def test_the_gateways_device_is_sent_along(run, serial, tmp_path):
    payload = pulse(serial, 200)
    del payload["device"]
    one = tmp_path / "one.json"
    one.write_text(json.dumps(payload))
    code, output = run("send", one, "--mapping", "iot-hub", "--device", f"{SERIAL}|{serial}")
    assert code == 0, output
    assert counts(output)["accepted"] == 1


def test_a_refusal_is_told_and_the_other_files_are_sent(run, serial, tmp_path):
    broken, good = tmp_path / "broken.json", tmp_path / "good.json"
    broken.write_text("{")
    good.write_text(json.dumps(pulse(serial, 300)))
    code, output = run("send", broken, good, "--mapping", "iot-hub")
    assert code == 1
    assert "broken.json: 400" in output.replace("\n", "")
    assert counts(output)["accepted"] == 1


def test_a_gzip_file_that_was_cut_is_told(run, tmp_path):
    cut = tmp_path / "cut.ndjson.gz"
    cut.write_bytes(gzip.compress(b"{}\n" * 1000)[:-9])
    assert run("send", cut, "--mapping", "iot-hub")[0] == 1


def test_a_server_that_is_away_is_told(run, tmp_path):
    one = tmp_path / "one.json"
    one.write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    code, output = run("send", one, "--mapping", "iot-hub", url=url)
    assert code == 1
    assert "no connection" in output
    assert run("quarantine", url=url)[0] == 1


def test_wrong_usage_is_told_apart_from_failure(run, tmp_path):
    assert run("send", tmp_path / "none.json", "--mapping", "iot-hub")[0] == 2


def test_the_quarantine_is_listed_by_reason_and_tried_again(run, server, serial):
    unknown = f"unknown-{serial}"
    answer = requests.post(
        f"{server.url}/readings/iot-hub", json=pulse(unknown, 0), timeout=30
    ).json()
    task = answer["results"][0]["quarantine"]
    code, output = run("quarantine", "--reason", "device-unknown")
    assert code == 0, output
    assert re.search(r"\d+ +device-unknown", output)
    device = {"resourceType": "Device", "identifier": [{"system": SERIAL, "value": unknown}]}
    assert requests.post(f"{server.fhir}/Device", json=device, timeout=30).status_code == 201
    code, output = run("quarantine", "--reprocess", "--reason", "device-unknown")
    assert code == 0, output
    assert counts(output)["quarantined"] > 0
    kept = requests.get(f"{server.fhir}/{task}", timeout=30).json()
    assert kept["businessStatus"]["coding"][0]["code"] == "device-not-assigned"


def test_a_narrow_terminal_cuts_no_name_of_what_waits(run, server, serial, monkeypatch):
    monkeypatch.setattr(readings._out, "_width", 40)
    answer = requests.post(f"{server.url}/readings/iot-hub", json={"type": serial}, timeout=30)
    task = answer.json()["results"][0]["quarantine"]
    code, output = run("quarantine", "--reason", "unknown-kind")
    assert code == 0, output
    assert any(line.startswith(task) and "unknown-kind" in line for line in output.splitlines())


def test_an_empty_quarantine_is_told(run):
    code, output = run("quarantine", "--reason", "mapping-broken")
    assert code == 0
    assert "nothing waits" in output
