"""`fhir-server deliveries` by patient and time, and `verify`, which finds what was changed."""

import asyncio
import json
import sqlite3

import pytest
from typer.testing import CliRunner

from fhir_server.app import open_components
from fhir_server.cli.main import app
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.settings import Settings
from fhir_server.store.protocol import Routed

CLI = CliRunner()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A store with three deliveries: one accepted, one withheld, one queued."""
    path = tmp_path_factory.mktemp("ledger") / "fhir.db"
    components = open_components(Settings(store=f"sqlite:///{path}"))
    outbox = components.store.outbox

    def decide(tx):
        for name in ("a", "b", "c"):
            key = ResourceKey("Patient", name)
            tx.put(*next_version(None, key, {"resourceType": "Patient"}, tx.now))

    asyncio.run(components.store.commit(decide))
    outbox.fan_out(lambda v: (Routed("insurer", v.key.resource_id, str(v.key)),), 10)
    outbox.acknowledge(outbox.claim("insurer", "w", 60, 1), "w", "sha256:1")
    outbox.withhold(outbox.claim("insurer", "w", 60, 1), "w", "no consent")
    asyncio.run(components.store.close())
    return path


@pytest.fixture
def ledger(made, tmp_path):
    copy = tmp_path / "fhir.db"
    with sqlite3.connect(made) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def deliveries(path, *arguments):
    return CLI.invoke(app, ["deliveries", *arguments, "--store", f"sqlite:///{path}"])


def change(path, statement):
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(statement).rowcount
    connection.close()


def test_the_list_is_by_patient_and_time(ledger):
    answer = deliveries(ledger, "list", "--patient", "Patient/a", "--json")
    assert [json.loads(line)["resource"] for line in answer.stdout.splitlines()] == ["Patient/a"]
    assert deliveries(ledger, "list", "--since", "2999-01-01", "--json").stdout == ""
    states = ["--since", "2020", "--state", "withheld", "--json"]
    (line,) = deliveries(ledger, "list", *states).stdout.splitlines()
    assert json.loads(line)["reason"] == "no consent"


@pytest.mark.parametrize("wrong", [("--patient", "a b"), ("--since", "yesterday")])
def test_what_cannot_be_asked_is_said(ledger, wrong):
    assert deliveries(ledger, "list", *wrong).exit_code == 2


def test_a_whole_ledger_verifies(ledger):
    answer = deliveries(ledger, "verify")
    assert answer.exit_code == 0
    assert "insurer: 2 receipts" in answer.stdout


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE receipt SET detail = 'x' WHERE number = 1", "receipt 1 is not what was written"),
        ("UPDATE receipt SET at = at + 1 WHERE number = 2", "receipt 2 is not what was written"),
        ("DELETE FROM receipt WHERE number = 1", "receipts 1 to 1 are missing"),
        ("DELETE FROM receipt WHERE number = 2", "receipts 2 to 2 are missing"),
        ("UPDATE delivery SET state = 2 WHERE state = 5", "is accepted, its receipt withheld"),
        ("UPDATE delivery SET receipt = 'x' WHERE state = 2", "says another than receipt 1"),
        ("UPDATE delivery SET receipt_number = 1 WHERE state = 5", "is not what receipt 1"),
        ("UPDATE delivery SET state = 2 WHERE state = 0", "there is no receipt of it"),
    ],
)
def test_what_was_changed_shows(ledger, statement, said):
    change(ledger, statement)
    answer = deliveries(ledger, "verify")
    assert answer.exit_code == 1
    assert said in answer.stderr


def test_a_chain_that_was_made_anew_shows_against_what_was_told_before(ledger, tmp_path):
    kept = tmp_path / "kept.json"
    kept.write_text(deliveries(ledger, "verify", "--json").stdout)
    assert deliveries(ledger, "verify", "--anchors", str(kept)).exit_code == 0
    change(ledger, "UPDATE sink SET receipts = 0, digest = ''")
    change(ledger, "DELETE FROM receipt")
    change(ledger, "UPDATE delivery SET receipt_number = 0, state = 0")
    assert deliveries(ledger, "verify").exit_code == 0
    answer = deliveries(ledger, "verify", "--anchors", str(kept))
    assert answer.exit_code == 1
    assert "does not pass through" in answer.stderr


@pytest.mark.parametrize(
    ("how", "state"), [("reject", "rejected"), ("withhold", "withheld"), ("park", "parked")]
)
def test_what_was_stopped_is_shown_with_its_reason_and_queued_again(ledger, how, state):
    components = open_components(Settings(store=f"sqlite:///{ledger}"))
    outbox = components.store.outbox
    getattr(outbox, how)(outbox.claim("insurer", "w", 60, 1), "w", "no such plan")
    asyncio.run(components.store.close())
    listed = json.loads(deliveries(ledger, "list", "--json").stdout.splitlines()[-1])
    assert (listed["state"], listed["reason"]) == (state, "no such plan")
    number = str(listed["delivery"])
    shown = deliveries(ledger, "show", number).stdout
    assert state in shown
    assert "no such plan" in shown
    assert "1 of 1 queued again" in deliveries(ledger, "retry", number).stdout
    assert "0 of 1 queued again" in deliveries(ledger, "retry", number).stdout
    assert "queued again" in deliveries(ledger, "show", number).stdout
    assert deliveries(ledger, "verify").exit_code == 0


def test_all_that_was_stopped_is_queued_again_at_once(ledger):
    assert "1 of 1 queued again" in deliveries(ledger, "retry", "--all").stdout
    assert "0 of 0 queued again" in deliveries(ledger, "retry", "--all").stdout
