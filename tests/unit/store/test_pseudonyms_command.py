"""De-identified exports, and revealing a pseudonym: on record before it is told."""

import base64
import json
import sqlite3

import pytest
from typer.testing import CliRunner

from fhir_server.cli.main import app
from fhir_server.core.security import audit_record

POLICY = """
[deidentification.research]
shift_days = 60

[deidentification.research.types]
Observation = ["status", "code", "subject", "effective"]
Patient = { gender = "keep", birthDate = "year" }
"""


@pytest.fixture
def run(driver, path, tmp_path, monkeypatch):
    driver.write(
        {"resourceType": "Patient", "id": "anna", "gender": "female", "birthDate": "1949-07-21"},
        {
            "resourceType": "Observation",
            "id": "o1",
            "status": "final",
            "code": {"text": "secret"},
            "subject": {"reference": "Patient/anna"},
        },
    )
    (tmp_path / "settings.toml").write_text(POLICY)
    monkeypatch.setenv("FHIR_SERVER_CONFIG", str(tmp_path / "settings.toml"))
    monkeypatch.setenv("FHIR_SERVER_PSEUDONYMS", str(tmp_path / "keys.db"))
    monkeypatch.setenv("FHIR_SERVER_PSEUDONYM_KEY", base64.b64encode(bytes(32)).decode())
    return lambda *words: CliRunner().invoke(app, [*words, "--store", f"sqlite:///{path}"])


@pytest.fixture
def exported(run, tmp_path):
    folder = tmp_path / "out"
    found = run("export", str(folder), "--format", "ndjson", "--for", "research")
    assert found.exit_code == 0, found.stderr
    return {
        file.stem: [json.loads(line) for line in file.read_text().splitlines()]
        for file in folder.glob("*.ndjson")
    }


def records(path):
    connection = sqlite3.connect(path)
    found = [text for (text,) in connection.execute("SELECT text FROM trail ORDER BY seq")]
    connection.close()
    return [audit_record.parse(text) for text in found]


def test_an_export_for_a_recipient_is_under_pseudonyms(exported):
    assert sorted(exported) == ["Observation", "Patient"]
    (patient,) = exported["Patient"]
    (observation,) = exported["Observation"]
    assert observation["subject"] == {"reference": f"Patient/{patient['id']}"}
    assert patient["birthDate"] == "1949"
    assert "anna" not in json.dumps(exported)
    assert "secret" not in json.dumps(exported)


def test_a_reveal_tells_who_it_is_and_is_on_the_patients_list(exported, run, path):
    pseudonym = exported["Patient"][0]["id"]
    found = run("pseudonyms", "reveal", "research", pseudonym, "--reason", "a finding")
    assert found.exit_code == 0, found.stderr
    assert found.stdout.strip() == "Patient/anna"
    export, reveal = records(path)
    assert (export.interaction, export.reason) == ("export", "for research")
    assert reveal.reason == "a finding"
    assert audit_record.patients(reveal) == ("Patient/anna",)


def test_a_reveal_in_vain_is_on_record(exported, run, path):
    assert run("pseudonyms", "reveal", "research", "0" * 32, "--reason", "x").exit_code == 1
    assert records(path)[-1].outcome == "4"


def test_without_the_key_nothing_is_revealed(exported, run, monkeypatch, path):
    monkeypatch.setenv("FHIR_SERVER_PSEUDONYM_KEY", base64.b64encode(bytes([1] * 32)).decode())
    pseudonym = exported["Patient"][0]["id"]
    found = run("pseudonyms", "reveal", "research", pseudonym, "--reason", "x")
    assert found.exit_code == 2
    assert "anna" not in found.stdout + found.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("export", "out", "--for", "research"),
        ("export", "out", "--format", "ndjson", "--for", "nobody"),
        ("pseudonyms", "reveal", "research", "x", "--reason", " "),
    ],
)
def test_what_means_nothing_is_2(run, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    assert run(*words).exit_code == 2
