"""The commands: clients, gateways and staff are registered, and commands show who they are."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from typer.testing import CliRunner

from fhir_server.cli.main import app
from tests.conformance.security_kit import secured_server

ROOT = Path(__file__).parents[2]
PAYLOAD = ROOT / "mappings/iot-hub/examples/blood-pressure.payload.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("secured")


@pytest.fixture(scope="module")
def secured(folder):
    with secured_server(folder) as running:
        yield running


@pytest.fixture
def command(folder, secured, monkeypatch):
    monkeypatch.setenv("FHIR_SERVER_STORE", f"sqlite:///{folder}/fhir.db")
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, **more):
        result = CliRunner().invoke(app, list(map(str, arguments)), **more)
        return result.exit_code, result.output

    return run


def key_in(said):
    return re.search(r"shown this once: (\S+)", said)[1]


def test_a_client_is_registered_and_sends_readings(command, secured, tmp_path):
    key = tmp_path / "key.json"
    code, said = command("clients", "add", "sender", "--scopes", "system/*.cruds", "--new-key", key)
    assert code == 0, said
    assert key.stat().st_mode & 0o077 == 0
    shown = ("--client-id", "sender", "--client-key", key, "--server", secured.url)
    code, said = command("readings", "send", PAYLOAD, "--mapping", "iot-hub", *shown)
    assert code == 0, said
    assert command("readings", "quarantine", *shown)[0] == 0
    bundle = tmp_path / "patient.ndjson"
    bundle.write_text(json.dumps({"resourceType": "Patient", "id": "imported"}))
    code, said = command("import", bundle, *shown)
    assert code == 0, said
    assert "sender" in command("clients", "list")[1]
    assert command("clients", "revoke", "sender")[0] == 0
    code, said = command("readings", "send", PAYLOAD, "--mapping", "iot-hub", *shown)
    assert code == 1
    assert "token" in said
    # By another key it comes in again.
    renewed = tmp_path / "renewed.json"
    assert command("clients", "rotate", "sender", "--new-key", renewed)[0] == 0
    shown = ("--client-id", "sender", "--client-key", renewed, "--server", secured.url)
    assert command("readings", "send", PAYLOAD, "--mapping", "iot-hub", *shown)[0] == 0


def test_without_a_token_a_command_is_refused(command, secured):
    code, said = command(
        "readings", "send", PAYLOAD, "--mapping", "iot-hub", "--server", secured.url
    )
    assert code == 1
    assert "401" in said


def test_a_gateways_key_sends_readings(command, secured):
    code, said = command("gateways", "add", "hub-1", "--mapping", "iot-hub", "--per-minute", 600)
    assert code == 0, said
    key = key_in(said)
    to = ("--mapping", "iot-hub", "--server", secured.url, "--token")
    assert command("readings", "send", PAYLOAD, *to, key)[0] == 0
    code, said = command("gateways", "rotate", "hub-1", "--overlap-minutes", 5)
    assert code == 0
    for each in (key, key_in(said)):
        assert command("readings", "send", PAYLOAD, *to, each)[0] == 0
    assert "iot-hub" in command("gateways", "list")[1]
    assert command("gateways", "bind", "hub-1", "--mapping", "cgm")[0] == 0
    assert command("readings", "send", PAYLOAD, *to, key)[0] == 1
    assert command("gateways", "revoke", "hub-1")[0] == 0
    assert "revoked" in command("gateways", "list")[1]


def test_staff_are_registered(command):
    password = "a long password"
    more = {"input": f"{password}\n{password}\n"}
    code, said = command("staff", "add", "irina", "--fhir-user", "Practitioner/1", **more)
    assert code == 0, said
    assert "Practitioner/1" in command("staff", "list")[1]
    assert password not in said
    assert command("staff", "password", "irina", **more)[0] == 0
    assert command("staff", "revoke", "irina")[0] == 0
    assert "revoked" in command("staff", "list")[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("clients", "add", "x", "--scopes", "system/*.rs"),
        ("clients", "add", "x y", "--scopes", "system/*.rs", "--secret"),
        ("clients", "add", "x", "--scopes", "system/observation.rs", "--secret"),
        ("clients", "add", "x", "--scopes", "user/*.rs", "--redirect-uri", "http://app.example/"),
        ("clients", "add", "x", "--scopes", "user/*.rs", "--redirect-uri", "javascript:alert(1)"),
        ("clients", "add", "x", "--scopes", "system/*.rs", "--jwks-url", "http://app.example/"),
        ("clients", "add", "x", "--scopes", "system/*.rs", "--jwks", str(PAYLOAD)),
        ("clients", "revoke", "nobody"),
        ("clients", "rotate", "nobody"),
        ("gateways", "add", "x", "--device", "no-system"),
        ("gateways", "rotate", "nobody"),
        ("staff", "revoke", "nobody"),
    ],
    ids=lambda arguments: " ".join(arguments[:3] + arguments[-1:]),
)
def test_what_is_wrong_is_told_in_one_line(command, arguments):
    code, said = command(*arguments)
    assert code == 2, said
    assert said.startswith("fhir-server: ")
    assert said.count("\n") == 1


def test_a_name_is_given_once(command):
    arguments = ("clients", "add", "twice", "--scopes", "system/*.rs", "--secret")
    assert command(*arguments)[0] == 0
    code, said = command(*arguments)
    assert code == 2
    assert "client twice is registered already" in said


def test_a_key_file_is_never_overwritten(command, tmp_path):
    there = tmp_path / "there.json"
    there.write_text("precious")
    code, _ = command("clients", "add", "z", "--scopes", "system/*.rs", "--new-key", there)
    assert code == 2
    assert there.read_text() == "precious"


def test_what_is_revoked_is_out_of_every_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("FHIR_SERVER_STORE", f"sqlite:///{tmp_path}/fhir.db")
    monkeypatch.setenv("FHIR_SERVER_PLAN_TEMPLATES", "0")
    monkeypatch.setenv("FHIR_SERVER_DRAIN_SECONDS", "0")
    monkeypatch.delenv("FHIR_SERVER_AUTH", raising=False)
    runner = CliRunner()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "fhir_server", "serve", "--port", "0", "--workers", "2"],
            stdout=out,
            stderr=out,
        )
    try:
        url = wait_until_it_serves(log, process)
        # Asking for tokens is what it does unless told otherwise, and it says how to get one.
        assert "fhir-server clients add" in log.read_text()
        assert requests.get(f"{url}/fhir/Patient", timeout=10).status_code == 401
        key = key_in(runner.invoke(app, ["gateways", "add", "hub"]).output)

        def statuses():
            found = set()
            for _ in range(20):
                # A connection each, so that both workers are asked.
                headers = {"Authorization": f"Bearer {key}"}
                answer = requests.post(
                    f"{url}/readings/iot-hub", json={}, headers=headers, timeout=20
                )
                found.add(answer.status_code)
            return found

        assert statuses() == {200}
        assert runner.invoke(app, ["gateways", "revoke", "hub"]).exit_code == 0
        assert statuses() == {401}
    finally:
        process.terminate()
        process.wait(30)


def wait_until_it_serves(log, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        found = re.search(r"serving (http://\S+)", log.read_text())
        if found:
            try:
                if requests.get(f"{found[1]}/health/ready", timeout=5).ok:
                    return found[1]
            except requests.RequestException:
                pass
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_a_simulation_sends_by_a_gateways_key_and_is_accounted_for_by_a_client(
    command, secured, tmp_path
):
    key, ledger = tmp_path / "ward.json", tmp_path / "ledger.ndjson"
    assert command("clients", "add", "ward", "--scopes", "system/*.cruds", "--new-key", key)[0] == 0
    gateway = key_in(command("gateways", "add", "ward", "--mapping", "omron")[1])
    client = ("--client-id", "ward", "--client-key", key)

    def simulate(*shown):
        few = ("--kind", "omron", "--patients", 1, "--days", 1, "--faults", 0, "--connections", 1)
        return command("simulate", "--ledger", ledger, "--server", secured.url, *few, *shown)

    assert simulate(*client, "--gateway-key", "fhirgw.ward.wrong", "--seed", 2)[0] == 1
    ledger.unlink()
    assert simulate("--gateway-key", gateway)[0] == 1
    ledger.unlink(missing_ok=True)
    code, said = simulate(*client, "--gateway-key", gateway)
    assert code == 0, said
    assert "8  accepted" in said
    assert simulate(*client, "--verify")[0] == 0
    assert simulate("--gateway-key", gateway, "--verify")[0] == 1
