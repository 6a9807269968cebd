"""`fhir-server mappings check` and `try`."""

import json
from pathlib import Path
from shutil import copytree

import pytest
from typer.testing import CliRunner

from fhir_server import definitions
from fhir_server.cli.mappings import app

SHIPPED = definitions.shipped_folder("mappings")
PAYLOAD = str(SHIPPED / "iot-hub/examples/blood-pressure.payload.json")


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_the_shipped_mappings_pass(runner: CliRunner) -> None:
    result = runner.invoke(app, ["check"])
    assert result.exit_code == 0, result.output
    assert "no fault" in result.output


def test_faults_are_printed_with_file_and_line(runner: CliRunner, tmp_path: Path) -> None:
    folder = tmp_path / "iot-hub"
    copytree(SHIPPED / "iot-hub", folder)
    mapping = folder / "mapping.yaml"
    mapping.write_text(mapping.read_text().replace("loinc: 8462-4", "loinc: 8867-4"))
    line = next(
        i for i, text in enumerate(mapping.read_text().splitlines(), 1) if "diastolic" in text
    )
    result = runner.invoke(app, ["check", str(folder)])
    assert result.exit_code == 1
    assert f"{mapping}:{line}: LOINC 8867-4 is heart-rate" in result.output


def test_a_folder_without_mappings_is_wrong_usage(runner: CliRunner, tmp_path: Path) -> None:
    assert runner.invoke(app, ["check", str(tmp_path)]).exit_code == 2


def test_try_prints_what_a_payload_becomes(runner: CliRunner) -> None:
    result = runner.invoke(app, ["try", "iot-hub", PAYLOAD])
    assert result.exit_code == 0
    (outcome,) = json.loads(result.output)
    assert outcome["resource"]["component"][0]["valueQuantity"]["value"] == 119
    assert "issued" in outcome["resource"]


def test_try_writes_the_expected_file_of_an_example(runner: CliRunner) -> None:
    result = runner.invoke(app, ["try", str(SHIPPED / "iot-hub"), PAYLOAD, "--expected"])
    assert result.output == Path(PAYLOAD.replace(".payload.", ".expected.")).read_text()


def test_try_keeps_the_digits_of_a_decimal(runner: CliRunner) -> None:
    payload = str(SHIPPED / "ihealth/examples/bp-kilopascal-irregular.payload.json")
    result = runner.invoke(app, ["try", "ihealth", payload])
    assert '"value": 120.0,' in result.output


def test_try_of_what_becomes_a_fault_fails(runner: CliRunner, tmp_path: Path) -> None:
    payload = tmp_path / "unknown.json"
    payload.write_text('{"type": "Skin"}')
    assert runner.invoke(app, ["try", "iot-hub", str(payload)]).exit_code == 1
    assert runner.invoke(app, ["try", "nothing", str(payload)]).exit_code == 2
