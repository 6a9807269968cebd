"""`fhir-server terminology load`: a big code system into a store, again without harm."""

import json

import pytest
from typer.testing import CliRunner

from fhir_server.cli.main import app
from tests.conformance.conftest import Client, Server


def big(number):
    concepts = [{"code": f"c{n}", "concept": [{"code": f"c{n}a"}]} for n in range(number)]
    return {
        "resourceType": "CodeSystem",
        "url": "urn:big",
        "version": "1",
        "status": "active",
        "content": "complete",
        "concept": concepts,
    }


def run(path, *options):
    return CliRunner().invoke(app, ["terminology", "load", str(path), *options])


def test_a_loaded_code_system_answers_as_one_and_loading_again_changes_nothing(tmp_path):
    file = tmp_path / "big.json"
    file.write_text(json.dumps(big(1_200)))
    store = f"sqlite:///{tmp_path}/fhir.db"
    for _ in range(2):
        done = run(file, "--store", store)
        assert done.exit_code == 0, done.output
        assert "2,400 concepts" in done.output
    with Server(store=store) as server:
        client = Client(server)
        stored = client.get("CodeSystem", params={"url": "urn:big", "_elements": "url"}).json()
        versions = {entry["resource"]["meta"]["versionId"] for entry in stored["entry"]}
        assert (len(stored["entry"]), versions) == (4, {"1"})
        query = {"url": "urn:big?fhir_vs", "count": 2, "offset": 2_398}
        found = client.get("ValueSet/$expand", params=query).json()["expansion"]
        assert found["total"] == 2_400
        assert [each["code"] for each in found["contains"]] == ["c1199", "c1199a"]
        pair = {"system": "urn:big", "codeA": "c7", "codeB": "c7a"}
        outcome = client.get("CodeSystem/$subsumes", params=pair).json()["parameter"][0]
        assert outcome["valueCode"] == "subsumes"


@pytest.mark.parametrize("suffix", ["", "/", "/fhir", "/fhir/"])
def test_a_server_is_meant_with_its_base_or_without(tmp_path, suffix, server, client):
    file = tmp_path / "small.json"
    file.write_text(json.dumps({**big(2), "url": f"urn:small{suffix}"}))
    done = run(file, "--server", f"{server.url}{suffix}")
    assert done.exit_code == 0, done.output
    query = {"system": f"urn:small{suffix}", "code": "c1"}
    assert client.get("CodeSystem/$lookup", params=query).status_code == 200


@pytest.mark.parametrize("text", ["{", '{"resourceType": "Patient"}'])
def test_what_is_no_code_system_is_refused(tmp_path, text):
    file = tmp_path / "other.json"
    file.write_text(text)
    assert run(file, "--store", f"sqlite:///{tmp_path}/fhir.db").exit_code == 2
    assert not (tmp_path / "fhir.db").exists()
