"""fhirclient (SMART on FHIR's for Python), which nobody here wrote, unmodified."""

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.bundle import Bundle
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException


@pytest.fixture(scope="module")
def smart(server):
    client = FHIRClient(settings={"app_id": "tests", "api_base": server.fhir})
    # It reads the CapabilityStatement, strictly, to learn how it may come in.
    assert client.prepare()
    return client.server


@pytest.fixture(scope="module")
def family(smart):
    for number in range(7):
        body = {"name": [{"family": "Smart", "given": [f"N{number}"]}]}
        Patient({**body, "birthDate": f"{1950 + number}-01-01"}).create(smart)
    return "Smart"


def test_the_capabilities_are_what_its_models_take(smart):
    assert smart.capabilityStatement.fhirVersion == "4.0.1"


def test_a_resource_is_created_read_updated_and_deleted(smart, unique):
    made = Patient({"name": [{"family": unique}], "birthDate": "1990-02-03"}).create(smart)
    patient = Patient.read(made["id"], smart)
    assert (patient.name[0].family, patient.meta.versionId) == (unique, "1")
    patient.gender = "female"
    assert patient.update(smart)["meta"]["versionId"] == "2"
    patient.delete(smart)
    with pytest.raises(requests.HTTPError) as gone:
        Patient.read(made["id"], smart)
    assert gone.value.response.status_code == 410
    with pytest.raises(FHIRNotFoundException):
        Patient.read("nobody", smart)


def test_all_pages_are_followed(smart, family):
    search = Patient.where({"family": family, "_count": "3", "_sort": "birthdate"})
    assert [len(page.entry) for page in search.perform_iter(smart)] == [3, 3, 1]
    years = [each.birthDate.isostring[:4] for each in search.perform_resources_iter(smart)]
    assert years == [f"{year}" for year in range(1950, 1957)]


@pytest.mark.parametrize(("asked", "found"), [("$gt", 2), ("$gte", 3), ("$lt", 4), ("$lte", 5)])
def test_its_comparisons_are_understood(smart, family, asked, found):
    search = Patient.where({"family": family, "birthdate": {asked: "1954"}})
    assert len(list(search.perform_resources_iter(smart))) == found


def test_modifiers_alternatives_and_absence(smart, family):
    def count(**asked):
        search = Patient.where({"family": family, **asked})
        return len(list(search.perform_resources_iter(smart)))

    assert count(given={"$exact": "N3"}) == 1
    assert count(given={"$or": ["N1", "N2"]}) == 2
    assert count(gender={"$missing": "true"}) == 7


def test_includes_and_chains_come_along(smart, unique):
    made = Patient({"name": [{"family": unique}]}).create(smart)
    subject = {"reference": f"Patient/{made['id']}"}
    Observation({"status": "final", "code": {"text": "x"}, "subject": subject}).create(smart)
    search = Observation.where({"subject": {"$type": "Patient", "name": unique}})
    found = list(search.include("subject").perform_resources_iter(smart))
    assert [type(each) for each in found] == [Observation, Patient]
    assert found[0].subject.reference == f"Patient/{found[1].id}"


def test_a_transaction_is_whole(smart, unique):
    entry = {
        "fullUrl": "urn:uuid:0c7bf42b-3b9c-4c0c-9f3b-0c5d8a3b0a02",
        "resource": {"resourceType": "Patient", "name": [{"family": unique}]},
        "request": {"method": "POST", "url": "Patient"},
    }
    asked = Bundle({"type": "transaction", "entry": [entry]})
    done = Bundle(smart.post_json("", asked.as_json()).json())
    assert done.entry[0].response.status.startswith("201")
    found = Patient.where({"family": unique}).perform_resources_iter(smart)
    assert [f"Patient/{each.id}" in done.entry[0].response.location for each in found] == [True]
