"""fhirpy, which nobody here wrote, unmodified: everything its users do works here."""

import pytest
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import MultipleResourcesFound, OperationOutcome, ResourceNotFound


@pytest.fixture(scope="module")
def fhirpy(server):
    return SyncFHIRClient(server.fhir)


def test_a_resource_is_created_read_updated_and_deleted(fhirpy, unique):
    patient = fhirpy.resource("Patient", name=[{"family": unique, "given": ["Анна"]}])
    patient.save()
    assert patient.id
    assert patient.meta.versionId == "1"
    again = fhirpy.reference("Patient", patient.id).to_resource()
    assert again.serialize() == patient.serialize()
    patient["gender"] = "female"
    patient.save()
    assert patient.meta.versionId == "2"
    again.refresh()
    assert again.gender == "female"
    assert again.get_by_path("name.0.given.0") == "Анна"
    patient.delete()
    with pytest.raises(ResourceNotFound):
        fhirpy.get("Patient", patient.id)


def test_a_resource_gets_the_id_it_brings(fhirpy, unique):
    organization = fhirpy.resource("Organization", id=unique, name="Clinic")
    organization.save()
    assert fhirpy.get("Organization", unique)["name"] == "Clinic"


def test_faults_are_outcomes(fhirpy):
    with pytest.raises(OperationOutcome) as fault:
        fhirpy.resource("Patient", gender="unheard of").save()
    assert fault.value.resource["issue"][0]["expression"] == ["Patient.gender"]
    with pytest.raises(OperationOutcome):
        fhirpy.resources("Patient").search(birthdate="yesterday").fetch()
    with pytest.raises(ResourceNotFound):
        fhirpy.get("Patient", "nobody")


@pytest.fixture(scope="module")
def family(fhirpy):
    for number in range(7):
        fhirpy.resource(
            "Patient",
            identifier=[{"system": "urn:fhirpy", "value": f"{number}"}],
            name=[{"family": "Fhirpy", "given": [f"N{number}"]}],
            birthDate=f"19{50 + number}-01-01",
        ).save()
    return "Fhirpy"


def test_searches_find_count_and_sort(fhirpy, family):
    everyone = fhirpy.resources("Patient").search(family=family)
    assert everyone.count() == 7
    assert everyone.search(birthdate__ge="1955").count() == 2
    assert everyone.search(given__exact="N3").get().birthDate == "1953-01-01"
    assert everyone.sort("-birthdate").first().birthDate == "1956-01-01"
    assert everyone.search(identifier="urn:fhirpy|nobody").first() is None
    with pytest.raises(MultipleResourcesFound):
        everyone.get()
    elements = everyone.elements("birthDate").first()
    assert "name" not in elements


def test_all_pages_are_followed(fhirpy, family):
    everyone = fhirpy.resources("Patient").search(family=family).sort("birthdate").limit(2)
    assert len(everyone.fetch()) == 2
    assert [each.birthDate[:4] for each in everyone.fetch_all()] == [
        str(year) for year in range(1950, 1957)
    ]


def test_includes_come_along(fhirpy, unique):
    patient = fhirpy.resource("Patient", name=[{"family": unique}])
    patient.save()
    observation = fhirpy.resource(
        "Observation", status="final", code={"text": unique}, subject=patient.to_reference()
    )
    observation.save()
    bundle = (
        fhirpy.resources("Observation")
        .search(subject=patient)
        .include("Observation", "subject")
        .fetch_raw()
    )
    assert [entry.resource.resourceType for entry in bundle.entry] == ["Observation", "Patient"]
    assert [entry.search.mode for entry in bundle.entry] == ["match", "include"]
    assert observation["subject"].to_resource().id == patient.id
    has = fhirpy.resources("Patient").has("Observation", "subject", _id=observation.id)
    assert [each.id for each in has.fetch()] == [patient.id]


def test_a_patch_changes_what_it_says(fhirpy, unique):
    patient = fhirpy.resource("Patient", name=[{"family": unique}], gender="male")
    patient.save()
    patient.patch(gender="other", birthDate="1970-01-01")
    assert (patient.gender, patient.birthDate) == ("other", "1970-01-01")
    assert patient.get_by_path("name.0.family") == unique
    patient["gender"] = "unknown"
    patient.save(fields=["gender"])
    assert patient.meta.versionId == "3"
    assert fhirpy.resources("Patient").search(family=unique).patch(active=True).active is True


def test_conditional_interactions(fhirpy, unique):
    known = fhirpy.resources("Patient").search(identifier=f"urn:fhirpy|{unique}")
    patient = fhirpy.resource("Patient", identifier=[{"system": "urn:fhirpy", "value": unique}])
    first, is_created = known.get_or_create(patient)
    assert is_created
    again, is_created = known.get_or_create(patient)
    assert not is_created
    assert again.id == first.id
    patient["active"] = True
    updated, is_created = known.update(patient)
    assert (updated.id, updated.active, is_created) == (first.id, True, False)
    known.delete()
    assert known.count() == 0


def test_a_transaction_is_whole(fhirpy, unique):
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            {
                "fullUrl": "urn:uuid:0c7bf42b-3b9c-4c0c-9f3b-0c5d8a3b0a01",
                "resource": {"resourceType": "Patient", "name": [{"family": unique}]},
                "request": {"method": "POST", "url": "Patient"},
            },
            {
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": {"reference": "urn:uuid:0c7bf42b-3b9c-4c0c-9f3b-0c5d8a3b0a01"},
                },
                "request": {"method": "POST", "url": "Observation"},
            },
        ],
    }
    answer = fhirpy.execute("/", method="post", data=bundle)
    assert [entry.response.status for entry in answer.entry] == ["201 Created"] * 2
    patient = fhirpy.resources("Patient").search(family=unique).get()
    observations = fhirpy.resources("Observation").search(subject=patient).fetch()
    assert len(observations) == 1


def test_history_and_operations(fhirpy, unique):
    patient = fhirpy.resource("Patient", name=[{"family": unique}])
    patient.save()
    patient.patch(active=True)
    history = patient.execute("_history", method="get")
    assert [entry.resource.meta.versionId for entry in history.entry] == ["2", "1"]
    record = patient.execute("$everything", method="get")
    assert record.entry[0].resource.id == patient.id
    meta = patient.execute(
        "$meta-add",
        method="post",
        data={
            "resourceType": "Parameters",
            "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": unique}]}}],
        },
    )
    assert meta.parameter[0].valueMeta.tag[0].code == unique
