"""PlanDefinition/$apply: templates, proposals, stored plans, and limits that are changed."""

import pytest

from tests.conformance.conftest import Client, Server

KINDS = ("hypertension", "diabetes", "pregnancy", "heart-failure")
URL = "https://pmp.example/fhir/PlanDefinition/"


@pytest.fixture
def patient(client):
    return f"Patient/{client.create({'resourceType': 'Patient'})['id']}"


def parameters(**inputs):
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": name, **(value if isinstance(value, dict) else {"valueString": value})}
            for name, value in inputs.items()
        ],
    }


def order(patient, number, **more):
    physician = {"valueReference": {"identifier": {"value": "DR-1"}, "display": "The physician"}}
    identifier = {"valueIdentifier": {"system": "urn:example:orders", "value": number}}
    stored = {"store": {"valueBoolean": True}, "identifier": identifier}
    return parameters(**{"subject": patient, "practitioner": physician, **stored, **more})


def apply(client, kind, body):
    response = client.post(f"PlanDefinition/{kind}-monitoring/$apply", body)
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("kind", KINDS)
def test_a_template_can_be_read_and_becomes_a_plan_with_all_its_parts(
    client, patient, unique, kind
):
    template = client.get(f"PlanDefinition/{kind}-monitoring").json()
    assert client.found(f"PlanDefinition?url={URL}{kind}-monitoring")

    plan = apply(client, kind, order(patient, unique))

    assert plan["status"] == "active"
    assert plan["category"][0]["coding"][0]["code"] == kind
    assert plan["author"]["display"] == "The physician"
    goals = [client.get(goal["reference"]).json() for goal in plan["goal"]]
    assert len(goals) == len(template["goal"])
    assert all(goal["expressedBy"] == plan["author"] for goal in goals)
    requests = [client.get(each["reference"]["reference"]).json() for each in plan["activity"]]
    assert len(requests) == len(template["action"])
    for request in requests:
        assert request["basedOn"] == [{"reference": f"CarePlan/{plan['id']}"}]
        assert request["requester"] == plan["author"]
        assert request["subject"] == {"reference": patient}


def test_a_later_phase_begins_where_the_first_one_ends(client, patient, unique):
    plan = apply(client, "hypertension", order(patient, unique, start="2026-03-02"))
    requests = [client.get(each["reference"]["reference"]).json() for each in plan["activity"]]
    periods = [r["occurrenceTiming"]["repeat"].get("boundsPeriod") for r in requests]
    first = {"start": "2026-03-02", "end": "2026-03-08"}
    assert periods == [first, first, {"start": "2026-03-09"}]


def test_an_order_that_is_sent_again_is_one_plan(client, patient, unique):
    first = apply(client, "diabetes", order(patient, unique))
    again = apply(client, "diabetes", order(patient, unique))
    assert first == again
    assert len(client.found(f"CarePlan?subject={patient}")) == 1
    assert len(client.found(f"Goal?subject={patient}")) == 2
    other = client.post("PlanDefinition/pregnancy-monitoring/$apply", order(patient, unique))
    assert other.status_code == 409


def test_without_storing_it_is_a_proposal_that_contains_its_parts(client, patient):
    body = parameters(subject=patient, url=URL + "heart-failure-monitoring")
    plan = client.post("PlanDefinition/$apply", body).json()
    assert (plan["status"], plan["intent"]) == ("draft", "proposal")
    kinds = [resource["resourceType"] for resource in plan["contained"]]
    assert kinds == ["Goal", "ServiceRequest", "ServiceRequest"]
    assert client.found(f"CarePlan?subject={patient}") == []


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"subject": "Patient/nobody"}, 404),
        ({"subject": "Group/1"}, 400),
        ({"start": "yesterday"}, 400),
        ({"store": {"valueBoolean": True}}, 400),
        ({"unknown": "1"}, 400),
    ],
)
def test_what_cannot_be_applied_is_refused(client, patient, more, status):
    body = parameters(**{"subject": patient, **more})
    assert client.post("PlanDefinition/diabetes-monitoring/$apply", body).status_code == status


def test_a_definition_with_conditions_is_refused(client, patient):
    definition = client.get("PlanDefinition/diabetes-monitoring").json()
    definition["action"][0]["condition"] = [{"kind": "applicability"}]
    body = parameters(subject=patient, planDefinition={"resource": definition})
    response = client.post("PlanDefinition/$apply", body)
    assert response.status_code == 422
    assert client.issues(response)[0]["expression"] == ["PlanDefinition.action[0]"]


def test_what_a_clinic_has_edited_or_deleted_stays_so_after_a_restart(tmp_path):
    store = f"sqlite:///{tmp_path}/plans.db"
    with Server(store=store) as server:
        client = Client(server)
        edited = client.get("PlanDefinition/diabetes-monitoring").json()
        client.put("PlanDefinition/diabetes-monitoring", {**edited, "title": "Ours"})
        client.delete("PlanDefinition/pregnancy-monitoring")
    with Server(store=store) as server:
        client = Client(server)
        found = client.get("PlanDefinition/diabetes-monitoring").json()
        assert (found["title"], found["meta"]["versionId"]) == ("Ours", "2")
        assert client.get("PlanDefinition/pregnancy-monitoring").status_code == 410


def test_a_changed_limit_is_judged_by_from_then_on_and_its_history_says_who(
    client, patient, unique
):
    plan = apply(client, "pregnancy", order(patient, unique))
    goals = [client.get(goal["reference"]).json() for goal in plan["goal"]]
    goal = next(g for g in goals if g["description"]["text"].startswith("Systolic"))
    second = {"identifier": {"value": "DR-2"}, "display": "Another physician"}
    goal["target"][0]["detailQuantity"]["value"] = 150
    changed = client.put(f"Goal/{goal['id']}", {**goal, "expressedBy": second})
    assert changed.status_code == 200

    def measured(systolic, minute):
        value = {"value": systolic, "system": "http://unitsofmeasure.org", "code": "mm[Hg]"}
        code = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
        client.create(
            {"resourceType": "Observation", "status": "final", "code": code,
             "subject": {"reference": patient}, "valueQuantity": value,
             "effectiveDateTime": f"2099-01-01T10:{minute}:00Z"}
        )  # fmt: skip
        return client.found(f"DetectedIssue?patient={patient}")

    assert measured(145, 10) == []
    assert len(measured(155, 20)) == 1
    history = client.get(f"Goal/{goal['id']}/_history").json()
    told = [
        (e["resource"]["expressedBy"]["display"], e["resource"]["meta"]["versionId"])
        for e in history["entry"]
    ]
    assert told == [("Another physician", "2"), ("The physician", "1")]
    moments = [e["resource"]["meta"]["lastUpdated"] for e in history["entry"]]
    assert moments[0] > moments[1]
