"""`fhir-server simulate` against a real server: every reading and alert is accounted for."""

import subprocess
import sys

import pytest
import requests

from tests.faults.kit import Server as AnyServer
from tests.faults.kit import running, wait_until
from tests.faults.mqtt_kit import Broker, Listening

FAULTS = "0.06,reassigned=0.5,silence=0.5"


@pytest.fixture
def server(tmp_path):
    with running(AnyServer(tmp_path)) as (server,):
        yield server


def simulate(server, ledger, *arguments):
    command = [sys.executable, "-m", "fhir_server", "simulate", "--server", server.url]
    return subprocess.run(
        [*command, "--ledger", str(ledger), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_ward_with_every_fault_is_accounted_for_and_a_lost_reading_is_noticed(server, tmp_path):
    ledger = tmp_path / "ledger"
    done = simulate(
        server, ledger, "--patients", 2, "--days", 5, "--faults", FAULTS, "--seed", 5, "--alerts"
    )
    assert done.returncode == 0, done.stdout + done.stderr

    found = requests.get(f"{server.url}/fhir/Observation?code=105272-9&_count=1", timeout=30)
    lost = found.json()["entry"][0]["resource"]["id"]
    requests.delete(f"{server.url}/fhir/Observation/{lost}", timeout=30).raise_for_status()
    again = simulate(server, ledger, "--verify")

    assert again.returncode == 1
    assert "1 missing" in again.stdout


def test_a_ward_through_a_broker_is_accounted_for(server, tmp_path):
    ledger = tmp_path / "ledger"
    broker = Broker(tmp_path)
    broker.start()
    listener = Listening(
        tmp_path, server.store, "--broker", broker.url, "--topic", "devices/{mapping}/+"
    )
    try:
        listener.start().wait_until_connected()
        sent = simulate(
            server, ledger, "--broker", broker.url, "--patients", 1, "--days", 4, "--faults",
            FAULTS, "--no-check",
        )  # fmt: skip
        assert sent.returncode == 0, sent.stdout + sent.stderr
        wait_until(lambda: simulate(server, ledger, "--verify", "--alerts").returncode == 0, 40, 1)
    finally:
        listener.stop()
        broker.stop()


@pytest.mark.parametrize(
    "wrong", [("--faults", "gremlins=1"), ("--kind", "toaster"), ("--faults", "2")]
)
def test_what_cannot_be_simulated_is_said(server, tmp_path, wrong):
    done = simulate(server, tmp_path / "ledger", *wrong)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
