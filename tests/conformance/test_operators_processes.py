"""Real processes: how they start, refuse to start, log, stop, and how a store is restored."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import time
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import requests
from typer.testing import CliRunner

from fhir_server.cli import start_up
from fhir_server.cli.main import app
from fhir_server.errors import StoreUnavailable
from fhir_server.store.sqlite import schema
from tests import ended
from tests.conformance.server_process import ID, Load, Process, patient, run


def test_a_stop_under_load_breaks_no_request_and_keeps_every_acknowledged_write(tmp_path):
    with Process(tmp_path, FHIR_SERVER_DRAIN_SECONDS="1") as server:
        load = Load(server, 8)
        with ThreadPoolExecutor(9) as pool:
            lanes = [pool.submit(load.client, lane) for lane in range(load.connections)]
            pool.submit(load.watch)
            while len(load.acknowledged) < 200:
                assert not load.broken
                time.sleep(0.01)
            code = server.stop()
            load.is_over.set()
            for lane in lanes:
                lane.result()
    assert code == 0, server.log.read_text()
    assert load.broken == []
    with Process(tmp_path) as server, requests.Session() as session:
        for number in load.acknowledged:
            answer = session.get(f"{server.url}/fhir/Patient/p{number}", timeout=10)
            assert answer.status_code == 200


def test_a_request_that_was_accepted_is_finished_after_the_listening_has_ended(tmp_path):
    body = json.dumps(patient(1)).encode()
    head = (
        "PUT /fhir/Patient/p1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with (
        Process(tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as slow,
    ):
        slow.sendall(head + body[:10])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        while server.is_ready():
            assert time.monotonic() < deadline
        slow.sendall(body[10:])
        with closing(http.client.HTTPResponse(slow)) as answer:
            answer.begin()
            assert answer.status == 201
        assert server.process.wait(30) == 0


def test_a_server_that_stops_says_not_ready_first_and_ends_its_connections(tmp_path):
    with (
        Process(tmp_path, FHIR_SERVER_DRAIN_SECONDS="1.5") as server,
        requests.Session() as kept,
    ):
        assert kept.get(f"{server.url}/health/ready", timeout=5).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 1
        while (answer := kept.get(f"{server.url}/health/ready", timeout=5)).status_code == 200:
            assert time.monotonic() < deadline
        assert answer.json()["status"] == "stopping"
        assert answer.headers["Retry-After"]
        assert answer.headers["Connection"] == "close"
        assert kept.get(f"{server.url}/health/live", timeout=5).status_code == 200
        assert kept.get(f"{server.url}/fhir/metadata", timeout=5).status_code == 200
        assert server.process.wait(30) == 0


def test_several_processes_count_together_and_share_page_links(tmp_path):
    with Process(tmp_path, "--workers", "2") as server:
        for number in range(12):
            # A connection each, so that both processes are asked.
            answer = requests.put(
                f"{server.url}/fhir/Patient/p{number}", json=patient(number), timeout=10
            )
            assert answer.status_code == 201
        for _ in range(6):
            text = requests.get(f"{server.url}/metrics", timeout=10).text
            created = re.search(
                r'requests_total\{interaction="update",method="PUT",status="201"\} (\S+)', text
            )
            assert created
            assert float(created[1]) == 12
        link, found = f"{server.url}/fhir/Patient?_count=1", 0
        while link:
            bundle = requests.get(link, timeout=10).json()
            found += len(bundle["entry"])
            links = {part["relation"]: part["url"] for part in bundle["link"]}
            link = links.get("next")
        assert found == 12
        assert server.stop() == 0


def test_a_log_line_has_the_request_id_and_nothing_of_the_patient(tmp_path):
    with Process(tmp_path, FHIR_SERVER_LOG_FORMAT="json") as server:
        sent = {"X-Request-Id": "trace-1", "X-Correlation-Id": "flow-1"}
        url = f"{server.url}/fhir/Patient"
        requests.get(f"{url}/{ID}?name={ID}", headers=sent, timeout=10)
        requests.post(url, json={"resourceType": "Patient", "id": ID, "x": ID}, timeout=10)
        requests.post(f"{server.url}/readings/iot-hub?device={ID}", json={"a": ID}, timeout=10)
        requests.get(f"{server.url}/{ID}", timeout=10)
        assert server.stop() == 0
    log = server.log.read_text()
    assert ID not in log
    lines = [json.loads(line) for line in log.splitlines()]
    requested = [line for line in lines if line["event"] == "request"]
    assert [(line["method"], line["route"], line["status"]) for line in requested] == [
        ("GET", "/fhir/{type}/{id}", 404),
        ("POST", "/fhir/{type}", 422),
        ("POST", "/readings/{mapping}", 200),
        ("GET", "none", 404),
    ]
    assert requested[0]["request_id"] == "trace-1"
    assert requested[0]["correlation_id"] == "flow-1"
    assert all(line["duration_ms"] > 0 for line in requested)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{6}Z", x["timestamp"]) for x in lines)


def newer_store(folder):
    with closing(sqlite3.connect(folder / "newer.db")) as connection:
        connection.execute("PRAGMA application_id = 0x46484952")
        connection.execute("PRAGMA user_version = 999")
    return f"sqlite:///{folder / 'newer.db'}"


def empty_store(folder):
    path = folder / "empty.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.upgrade(connection)
    return f"sqlite:///{path}"


def taken_port():
    taken = socket.create_server(("127.0.0.1", 0))
    return taken, taken.getsockname()[1]


def check_one_line(ended_with, stderr, code, said):
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("fhir-server: ")
    assert said in lines[0]
    assert ended_with == code, lines


def test_what_keeps_a_server_from_opening_is_named_in_one_line(tmp_path):
    cases = [
        (["--store", newer_store(tmp_path)], {}, 1, "a newer release has used it"),
        ([], {"FHIR_SERVER_ADAPTERS": '{"no-one": {}}'}, 2, "no adapter is called no-one"),
    ]
    for arguments, variables, code, said in cases:
        ended_with, stderr = run("serve", "--port", "0", *arguments, cwd=tmp_path, **variables)
        check_one_line(ended_with, stderr, code, said)


def test_a_taken_port_and_a_folder_that_is_none_are_named_in_one_line(tmp_path, invoke):
    taken, port = taken_port()
    with taken:
        check_one_line(*invoke("serve", "--port", port), 1, f"port {port} of 127.0.0.1 is taken")
    (tmp_path / "plain").write_text("not a folder")
    store = f"sqlite:///{tmp_path / 'plain' / 'x.db'}"
    check_one_line(*invoke("serve", "--port", 0, "--store", store), 1, "cannot be written")


def test_a_store_that_cannot_be_opened_is_named_without_its_password():
    url = "mongodb://user:pass-word@one:27017,two:27017/fhir?authSource=admin"
    told = str(start_up.cannot_open(url, StoreUnavailable("no server answers")))
    assert told == "mongodb://one:27017,two:27017/fhir: no server answers"


@pytest.fixture
def invoke(monkeypatch):
    """A command in this process, which must fail before it changes anything here."""
    for name in [name for name in os.environ if name.startswith("FHIR_SERVER_")]:
        monkeypatch.delenv(name)
    for name, text in (("STORE", "sqlite:///:memory:"), ("AUTH", "none"), ("DELIVER", "1")):
        monkeypatch.setenv(f"FHIR_SERVER_{name}", text)

    def invoked(*arguments):
        result = CliRunner().invoke(app, [*map(str, arguments)])
        return result.exit_code, result.stderr

    return invoked


@pytest.mark.parametrize(
    ("arguments", "variable", "text", "said"),
    [
        (["--store", "sqlite://host/x"], "", "", "sqlite:///file"),
        (["--workers", "2"], "", "", "--workers 1"),
        (["--host", "0.0.0.0"], "", "", "AUTH=none is refused"),
        (["--auth", "magic"], "", "", "FHIR_SERVER_AUTH: "),
        ([], "MAX_PAGE_SIZE", "none", "FHIR_SERVER_MAX_PAGE_SIZE: "),
        ([], "ADAPTERS", "{", "adapters"),
        ([], "TIME_ZONE", "Mars/Olympus", "FHIR_SERVER_TIME_ZONE: there is no time zone data"),
        ([], "BASE_URL", "ehr.example/fhir", "FHIR_SERVER_BASE_URL: "),
        ([], "BASE_URL", "https://ehr.example/fhir?x=1", "FHIR_SERVER_BASE_URL: "),
        ([], "TRUSTED_PROXIES", "127.0.0.1,proxy", "FHIR_SERVER_TRUSTED_PROXIES: "),
        ([], "CONFIG", "not-there.toml", "FHIR_SERVER_CONFIG: not-there.toml"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(invoke, monkeypatch, arguments, variable, text, said):
    if variable:
        monkeypatch.setenv(f"FHIR_SERVER_{variable}", text)
    check_one_line(*invoke("serve", "--port", "0", *arguments), 2, said)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('stroe = "sqlite:///x.db"', "no setting is called stroe"),
        ("[[", "is no TOML"),
        ("max_page_size = 0", "FHIR_SERVER_MAX_PAGE_SIZE: "),
    ],
)
def test_a_wrong_file_of_settings_is_named_in_one_line(
    invoke, monkeypatch, tmp_path, content, said
):
    file = tmp_path / "settings.toml"
    file.write_text(content)
    monkeypatch.setenv("FHIR_SERVER_CONFIG", str(file))
    check_one_line(*invoke("serve", "--port", "0"), 2, said)


def test_a_disk_that_is_nearly_full_is_warned_of(monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")(100 * 1024**3, 0, 900 * 1024**2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    store = f"sqlite:///{tmp_path / 'made-later' / 'fhir.db'}"
    warning = start_up.check_store_folder(store)
    assert warning == f"the disk of {tmp_path} is nearly full: 900 MiB are left"
    usage = usage._replace(free=50 * 1024**3)
    assert start_up.check_store_folder(store) == ""


def test_a_misspelt_variable_is_warned_of(monkeypatch):
    monkeypatch.setenv("FHIR_SERVER_STOER", "sqlite:///x.db")
    assert "FHIR_SERVER_STOER" in start_up.unknown_variables()
    assert "FHIR_SERVER_STORE" not in start_up.unknown_variables()


def test_a_copy_made_under_load_is_restored_whole_with_what_was_acknowledged_before(tmp_path):
    store = f"sqlite:///{tmp_path / 'fhir.db'}"
    copy = tmp_path / "copy.db"
    with Process(tmp_path) as server:
        load = Load(server, 4)
        with ThreadPoolExecutor(4) as pool:
            lanes = [pool.submit(load.client, lane) for lane in range(load.connections)]
            while len(load.acknowledged) < 100:
                assert not load.broken
                time.sleep(0.01)
            before = list(load.acknowledged)
            code, said = ended.run("backup", copy, "--store", store)
            assert code == 0, said
            after = len(load.acknowledged)
            load.is_over.set()
            for lane in lanes:
                lane.result()
        assert after > len(before), "nothing was written meanwhile"
        assert server.stop() == 0
    assert [path.name for path in tmp_path.glob("copy*")] == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    restored = tmp_path / "restored"
    restored.mkdir()
    copy.rename(restored / "fhir.db")
    code, said = ended.run("check-store", "--store", f"sqlite:///{restored / 'fhir.db'}")
    assert code == 0, said
    with Process(restored) as server, requests.Session() as session:
        for number in before:
            answer = session.get(f"{server.url}/fhir/Patient/p{number}", timeout=10)
            assert answer.status_code == 200
        count = session.get(f"{server.url}/fhir/Patient?_summary=count", timeout=10).json()
        assert len(before) <= count["total"] <= len(load.acknowledged)
        assert session.put(f"{server.url}/fhir/Patient/new", json=patient(0) | {"id": "new"},
                           timeout=10).status_code == 201  # fmt: skip


def test_a_backup_replaces_nothing_and_says_what_it_cannot_copy(tmp_path, invoke):
    (tmp_path / "there.db").write_text("somebody's")
    there, copy = tmp_path / "there.db", tmp_path / "copy.db"
    for url, target, code, said in (
        (empty_store(tmp_path), there, 2, "is there already"),
        (empty_store(tmp_path), tmp_path / "no" / "copy.db", 1, "No such file"),
        (f"sqlite:///{tmp_path / 'none.db'}", copy, 1, "no file"),
        (f"sqlite:///{there}", copy, 1, "store"),
        ("mongodb://127.0.0.1/x", copy, 2, "docs/operations.md"),
        ("sqlite:///:memory:", copy, 2, "in memory"),
    ):
        check_one_line(*invoke("backup", target, "--store", url), code, said)
    assert there.read_text() == "somebody's"
    assert not copy.exists()
    assert not (tmp_path / "none.db").exists()
