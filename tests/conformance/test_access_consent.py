"""Consents, care teams and broken glass: they decide from the next request on."""

import itertools

import pytest

from tests.conformance.access_scene import (
    PAYMENT,
    ByHeader,
    World,
    consent,
    directory,
    observation,
    record,
)
from tests.conformance.conftest import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def world():
    settings = {"plan_templates": False, "validation": "warn", "views_seconds": 0}
    with Server(ByHeader(), store="sqlite:///:memory:", **settings) as server:
        world = World(server)
        world.put(*directory())
        yield world


@pytest.fixture
def patient(world) -> str:
    """One with a record of their own, whose doctor is `dr`, and no consent yet."""
    name = f"p{next(_numbers)}"
    world.put(*record(name, "Ivanova", "dr", 60))
    return name


def sees(world: World, who: str, path: str, **headers: str) -> bool:
    answer = world.ask(who, "GET", path, **headers)
    assert answer.status_code in (200, 404), answer.text
    return answer.status_code == 200


def counted(world: World, who: str, search: str) -> int:
    return world.ask(who, "GET", f"{search}&_summary=count").json()["total"]


def test_without_a_consent_the_purpose_decides(world, patient):
    assert sees(world, "physician", f"Observation/{patient}-o1")
    assert sees(world, "hospital", f"Observation/{patient}-o1")
    assert not sees(world, "insurer", f"Observation/{patient}-o1")


def test_an_insurer_sees_whom_it_insures_and_who_permits_it(world, patient):
    world.put(consent(f"{patient}-n", patient, "permit", purpose=[PAYMENT]))
    assert sees(world, "insurer", f"Observation/{patient}-o1")
    assert counted(world, "insurer", f"Observation?patient={patient}") == 3
    cancelled = {**record(patient, "x", "dr", 1)[8], "status": "cancelled"}
    assert cancelled["resourceType"] == "Coverage"
    world.put(cancelled)
    assert not sees(world, "insurer", f"Observation/{patient}-o1")


def test_a_withdrawal_counts_for_the_next_request_and_page(world, patient):
    world.put(*(observation(f"{patient}-x{n}", patient) for n in range(5)))
    path = f"Observation?patient={patient}&_count=2&_sort=_id"
    page = world.ask("physician", "GET", path).json()
    following = {link["relation"]: link["url"] for link in page["link"]}["next"]
    assert len(world.ask("physician", "GET", following).json()["entry"]) == 2
    world.put(consent(f"{patient}-n", patient, "deny"))
    assert not world.ask("physician", "GET", following).json().get("entry")
    assert not sees(world, "physician", f"Patient/{patient}")
    assert not sees(world, "hospital", f"Patient/{patient}")
    # Their own data stay theirs, and so does the word about it.
    answer = world.ask(
        "hospital", "PUT", f"Consent/{patient}-n", consent(f"{patient}-n", patient, "permit")
    )
    assert answer.status_code == 404


def test_the_newest_consent_decides(world, patient):
    old = {**consent(f"{patient}-1", patient, "permit"), "dateTime": "2023-01-01"}
    new = {**consent(f"{patient}-2", patient, "deny", actor=_actors("Practitioner/dr")),
           "dateTime": "2024-01-01"}  # fmt: skip
    world.put(new, old)
    assert not sees(world, "physician", f"Patient/{patient}")
    world.put({**consent(f"{patient}-3", patient, "permit"), "dateTime": "2024-06"})
    assert sees(world, "physician", f"Patient/{patient}")


@pytest.mark.parametrize(
    ("provision", "is_seen"),
    [
        ({"actor": [{"reference": {"reference": "Practitioner/dx"}}]}, True),
        ({"actor": [{"reference": {"reference": "Practitioner/dr"}}]}, False),
        ({"actor": [{"reference": {"display": "somebody"}}]}, False),
        ({"purpose": [PAYMENT]}, True),
        ({"period": {"end": "2020"}}, True),
        ({"period": {"start": "2020"}}, False),
        ({"period": {"start": "2120"}}, True),
        ({"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Goal"}]}, True),
        (
            {"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]},
            False,
        ),
        ({"class": [{"system": "urn:other", "code": "Observation"}]}, False),
        ({"code": [{"text": "something"}]}, False),
    ],
)
def test_a_denial_is_for_what_it_names_and_for_more_where_it_is_unclear(
    world, patient, provision, is_seen
):
    world.put(consent(f"{patient}-n", patient, "deny", **provision))
    assert sees(world, "physician", f"Observation/{patient}-o1") is is_seen
    assert bool(counted(world, "physician", f"Observation?patient={patient}")) is is_seen


def test_single_resources_are_kept_back_where_they_are_the_patients(world, patient):
    named = [f"Observation/{patient}-o1"]
    world.put(consent(f"{patient}-n", patient, "deny", data=_data(*named)))
    assert not sees(world, "physician", named[0])
    assert sees(world, "physician", f"Observation/{patient}-o2")
    assert counted(world, "physician", f"Observation?patient={patient}") == 2
    other = f"q{patient}"
    world.put(*record(other, "Petrov", "dr", 60))
    world.put(consent(f"{other}-n", other, "deny", data=_data(f"Observation/{patient}-o2")))
    assert sees(world, "physician", f"Observation/{patient}-o2")


def test_a_permit_of_single_resources_opens_no_others(world, patient):
    other = f"q{patient}"
    world.put(*record(other, "Petrov", "dr", 60))
    data = _data(f"Observation/{patient}-o1", f"Observation/{other}-o1")
    world.put(consent(f"{patient}-n", patient, "permit", purpose=[PAYMENT], data=data))
    assert sees(world, "insurer", f"Observation/{patient}-o1")
    assert not sees(world, "insurer", f"Observation/{patient}-o2")
    assert not sees(world, "insurer", f"Observation/{other}-o1")
    assert counted(world, "insurer", f"Observation?patient={patient},{other}") == 1


def test_who_leaves_the_care_team_sees_no_more(world, patient):
    assert not sees(world, "colleague", f"Patient/{patient}")
    team = next(
        each for each in record(patient, "x", "dx", 1) if each["resourceType"] == "CareTeam"
    )
    world.put(team)
    assert sees(world, "colleague", f"Patient/{patient}")
    assert not sees(world, "physician", f"Patient/{patient}")
    world.put({**team, "period": {"end": "2020"}})
    assert not sees(world, "colleague", f"Patient/{patient}")


def test_the_glass_is_broken_for_one_patient_with_a_reason(world, patient):
    world.put(consent(f"{patient}-n", patient, "deny"))
    glass = {"X_Break_Glass": f"Patient/{patient}", "X_Break_Glass_Reason": "unconscious"}
    assert not sees(world, "colleague", f"Observation/{patient}-o1")
    assert sees(world, "colleague", f"Observation/{patient}-o1", **glass)
    other = f"q{patient}"
    world.put(*record(other, "Petrov", "dr", 60))
    assert not sees(world, "colleague", f"Observation/{other}-o1", **glass)
    # Not longer than the request.
    assert not sees(world, "colleague", f"Observation/{patient}-o1")


@pytest.mark.parametrize(
    ("who", "headers", "status"),
    [
        ("colleague", {"X_Break_Glass": "Patient/1"}, 400),
        ("colleague", {"X_Break_Glass": "nonsense", "X_Break_Glass_Reason": "x"}, 400),
        ("insurer", {"X_Break_Glass": "Patient/1", "X_Break_Glass_Reason": "x"}, 403),
        ("patient", {"X_Break_Glass": "Patient/1", "X_Break_Glass_Reason": "x"}, 403),
    ],
)
def test_the_glass_stays_whole_for_others_and_without_a_reason(world, who, headers, status):
    assert world.ask(who, "GET", "Patient/1", **headers).status_code == status


def _actors(*references):
    role = {"text": "any"}
    return [{"role": role, "reference": {"reference": each}} for each in references]


def _data(*references):
    return [{"meaning": "instance", "reference": {"reference": each}} for each in references]
