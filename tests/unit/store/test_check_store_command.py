"""`check-store`: 0 when nothing is wrong, 1 when something is, 2 when it is asked wrongly."""

import sqlite3

import pytest
from typer.testing import CliRunner

from fhir_server.cli.main import app


@pytest.fixture
def check():
    return lambda path: CliRunner().invoke(app, ["check-store", "--store", f"sqlite:///{path}"])


def test_a_store_in_order_is_0_and_counted(driver, path, check):
    driver.write({"resourceType": "Patient", "id": "p1", "active": True})
    found = check(path)
    assert found.exit_code == 0
    assert "versions: 1" in found.stdout


def test_a_fault_is_1_and_named(driver, path, check):
    driver.write({"resourceType": "Patient", "id": "p1", "active": True})
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM token_entry")
    connection.close()
    found = check(path)
    assert found.exit_code == 1
    assert "token_entry lacks a row of 1" in found.stderr


def test_a_store_that_is_not_there_is_2_and_not_made(tmp_path, check):
    assert check(tmp_path / "none.db").exit_code == 2
    assert list(tmp_path.iterdir()) == []
