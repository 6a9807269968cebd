"""Clients with a policy are shown pseudonyms, find by pseudonyms, and can ask nothing else."""

import asyncio
import json

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.deidentify_policy import read_policy
from fhir_server.core.security.principal import Principal
from fhir_server.errors import Forbidden
from fhir_server.interactions import access
from fhir_server.operations.depersonalized_store import DepersonalizedStore
from fhir_server.pseudonyms.key_store import PseudonymKeys
from fhir_server.store.protocol import HistoryQuery

POLICY = {
    "types": {
        "Patient": {"gender": "keep", "birthDate": "year"},
        "Observation": ["status", "code", "subject", "effective", "value"],
    },
    "shift_days": 60,
    "clients": ["insurer"],
}


@pytest.fixture
def keys(tmp_path):
    keys = PseudonymKeys(tmp_path / "pseudonyms.db", bytes(32))
    yield keys
    keys.close()


@pytest.fixture
def shown(driver, keys):
    """The driver's store as a client sees it; what `ask` makes of it."""
    types = driver.definitions.element_types
    policy = read_policy("insurer", POLICY, types)
    store = DepersonalizedStore(driver.store, {"insurer": policy}, keys, types)

    def ask(what, client="insurer"):
        async def asked():
            access.begin_asking(lambda: Principal("system", client))
            return await what(store)

        return driver.run(asyncio.wait_for(asked(), 20))

    return ask


@pytest.fixture
def filled(driver):
    for name in ("anna", "boris"):
        driver.write(
            {
                "resourceType": "Patient",
                "id": name,
                "name": [{"family": name}],
                "gender": "female",
                "birthDate": "1949-07-21",
            },
            {
                "resourceType": "Observation",
                "id": f"o-{name}",
                "status": "final",
                "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
                "subject": {"reference": f"Patient/{name}"},
                "effectiveDateTime": "2024-05-01",
            },
        )
    return driver


def search(driver, text):
    return lambda store: store.search(driver.query(text))


def test_a_search_shows_pseudonyms_and_no_name(filled, shown, keys):
    page = shown(search(filled, "Observation?code=8867-4&_total=accurate"))
    assert page.total == 2
    text = json.dumps([version.resource() for version in page.versions])
    assert "anna" not in text
    assert "boris" not in text
    assert "2024-05-01" not in text
    anna, _ = keys.pseudonym("insurer", ResourceKey("Patient", "anna"), 60)
    assert anna in text


def test_a_pseudonym_finds_what_is_its_patients(filled, shown, keys):
    anna, _ = keys.pseudonym("insurer", ResourceKey("Patient", "anna"), 60)
    page = shown(search(filled, f"Observation?patient={anna}"))
    (found,) = (version.resource() for version in page.versions)
    assert found["subject"] == {"reference": f"Patient/{anna}"}
    (patient,) = shown(search(filled, f"Patient?_id={anna}")).versions
    assert patient.key == ResourceKey("Patient", anna)
    assert patient.resource()["birthDate"] == "1949"


def test_a_true_id_finds_nothing(filled, shown):
    assert shown(search(filled, "Observation?patient=anna")).versions == ()
    assert shown(search(filled, "Patient?_id=anna")).versions == ()
    assert shown(lambda store: store.read(ResourceKey("Patient", "anna"))) is None
    assert shown(lambda store: store.read(ResourceKey("Observation", "o-anna"))) is None


def test_a_patient_is_read_by_the_pseudonym(filled, shown, keys):
    anna, _ = keys.pseudonym("insurer", ResourceKey("Patient", "anna"), 60)
    version = shown(lambda store: store.read(ResourceKey("Patient", anna)))
    assert version.resource()["gender"] == "female"


@pytest.mark.parametrize(
    "text",
    [
        "Patient?name=anna",
        "Patient?birthdate=1949-07-21",
        "Observation?date=2024-05-01",
        "Observation?_lastUpdated=ge2020",
        "Observation?patient.name=anna",
        "Observation?subject:Patient.family=anna",
        "Patient?_has:Observation:patient:code=8867-4",
        "Patient?_sort=name",
        "Observation?code:missing=true",
        "Condition?code=1",
        "AuditEvent?action=R",
    ],
)
def test_what_would_tell_more_is_not_asked(filled, shown, text):
    with pytest.raises(Forbidden):
        shown(search(filled, text))


def test_nothing_is_written_and_no_history_is_shown(filled, shown):
    for what in (
        lambda store: store.commit(lambda tx: None),
        lambda store: store.history(HistoryQuery()),
        lambda store: store.vread(ResourceKey("Patient", "anna"), 1),
        lambda store: store.read_many([ResourceKey("Patient", "anna")]),
        lambda store: store.changes(0, 10),
    ):
        with pytest.raises(Forbidden):
            shown(what)


def test_other_clients_see_the_store_as_it_is(filled, shown):
    page = shown(search(filled, "Patient?name=anna"), client="hospital")
    assert [version.key.resource_id for version in page.versions] == ["anna"]
