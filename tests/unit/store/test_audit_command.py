"""`fhir-server audit`: 0 when nothing is wrong, 1 when something is, 2 when asked wrongly."""

import sqlite3

import pytest
from typer.testing import CliRunner

from fhir_server.cli.main import app
from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_record import AuditRecord
from fhir_server.store.trail import TrailEntry


@pytest.fixture
def audit(path):
    def run(command, *more):
        return CliRunner().invoke(app, ["audit", command, *more, "--store", f"sqlite:///{path}"])

    return run


@pytest.fixture
def recorded(driver):
    entries = [
        TrailEntry(audit_record.format(AuditRecord("read", "R", request=str(number))))
        for number in range(3)
    ]
    driver.commit(lambda tx: tx.record(entries))
    return driver


def test_a_trail_in_order_is_0_and_its_newest_link_is_told(recorded, audit):
    head = audit("head").stdout.strip()
    assert head.startswith("3:")
    found = audit("verify", "--expect", head)
    assert found.exit_code == 0, found.stderr
    assert f"3 records up to {head}" in found.stdout


def test_a_fault_is_1_and_named(recorded, path, audit):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM trail WHERE seq = 2")
    connection.close()
    found = audit("verify")
    assert found.exit_code == 1
    assert "record 2: missing" in found.stderr


def test_what_is_no_link_is_2(recorded, audit):
    assert audit("verify", "--expect", "newest").exit_code == 2


def test_pruning_says_how_many_and_keeps_the_chain(recorded, audit):
    # The records bear the time of the test's clock, years ago.
    assert "3 records removed" in audit("prune", "--keep-days", "1").stdout
    found = audit("verify")
    assert found.exit_code == 0
    assert "1 records up to 4:" in found.stdout


def test_another_key_does_not_fit(recorded, audit, monkeypatch):
    monkeypatch.setenv("FHIR_SERVER_AUDIT_KEY", "another")
    assert audit("verify").exit_code == 1
