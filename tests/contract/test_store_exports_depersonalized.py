"""A recipient's export holds pseudonyms and what its policy leaves, and nothing else."""

import json
from dataclasses import replace

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.deidentify_policy import read_policy
from fhir_server.operations.depersonalized_store import DepersonalizedStore
from fhir_server.pseudonyms.key_store import PseudonymKeys
from tests.contract.access import principal
from tests.contract.exporting import Exporting

POLICY = {
    "types": {
        "Patient": {"gender": "keep", "birthDate": "year"},
        "Observation": ["status", "code", "subject", "effective", "value"],
    },
    "shift_days": 60,
    "clients": ["insurer"],
}


@pytest.fixture
def exporting(store_kind, new_url, make_driver, indexer, tmp_path):
    url = new_url(store_kind)
    if store_kind == "sqlite":
        url = url.replace(".db", "/fhir.db")
    driver = make_driver(url)
    driver.write(
        {"resourceType": "Patient", "id": "anna", "name": [{"family": "Ivanova"}],
         "birthDate": "1949-07-21"},
        {"resourceType": "Observation", "id": "o-anna", "status": "final",
         "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
         "subject": {"reference": "Patient/anna"}, "effectiveDateTime": "2024-05-01"},
        {"resourceType": "Condition", "id": "c-anna", "subject": {"reference": "Patient/anna"}},
    )  # fmt: skip
    made = Exporting(driver, indexer, url)
    types = driver.definitions.element_types
    keys = PseudonymKeys(tmp_path / "pseudonyms.db", bytes(32))
    policy = read_policy("insurer", POLICY, types)
    store = DepersonalizedStore(driver.store, {"insurer": policy}, keys, types)
    made.context = replace(made.context, store=store)
    made.keys = keys
    yield made
    keys.close()
    made.store.close()
    driver.close()


def begun(exporting, query, level="system"):
    who = principal("system", "system/*.rs", client_id="insurer")
    ctx = exporting.driver.run(exporting.authorizer.authorize(exporting.context, who))
    return exporting.begin(query, level, ctx)


@pytest.mark.parametrize("level", ["system", "patient"])
def test_files_hold_pseudonyms(exporting, level):
    name = begun(exporting, "", level)
    job = exporting.run(name)
    assert (job.state, job.notes) == ("done", ())
    anna, _ = exporting.keys.pseudonym("insurer", ResourceKey("Patient", "anna"), 60)
    said = exporting.lines(name)
    assert {each["resourceType"] for each in said} == {"Patient", "Observation"}
    assert {f"Patient/{anna}"} == {e["subject"]["reference"] for e in said if "subject" in e}
    for secret in ("anna", "Ivanova", "1949-07-21", "2024-05-01"):
        assert secret not in json.dumps(said)


@pytest.mark.parametrize(
    "query",
    [
        "_type=Patient&_since=2000-01-01T00:00:00Z",
        "_type=Patient&_typeFilter=Patient?name=Ivanova",
        "_type=Condition",
    ],
)
def test_what_would_tell_what_is_left_out_is_not_done_and_said_to_be_so(exporting, query):
    name = begun(exporting, query)
    job = exporting.run(name)
    assert job.state == "done"
    assert {code for code, _ in job.notes} == {"forbidden"}
    assert {file.kind for file in job.files} == {"error"}
    (first, *_) = exporting.lines(name, "error")
    assert first["issue"][0]["code"] == "forbidden"
