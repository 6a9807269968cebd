"""What is on record of somebody who may not see everything is what they were shown."""

import pytest

from tests.conformance.access_scene import ByHeader, World, directory, record
from tests.conformance.conftest import Server


@pytest.fixture(scope="module")
def world():
    settings = {"plan_templates": False, "validation": "warn", "views_seconds": 0, "audit": "on"}
    with Server(ByHeader(), store="sqlite:///:memory:", **settings) as server:
        world = World(server)
        world.put(*directory(), *record("anna", "Ivanova", "dr", 60))
        world.put(*record("boris", "Petrov", "dx", 70))
        yield world


def accesses(world, patient, who="hospital"):
    """The requests of the physician that stand on a patient's list."""
    answer = world.ask(who, "GET", f"AuditEvent?patient=Patient/{patient}&_count=200")
    assert answer.status_code == 200, answer.text
    return [
        event["resource"]
        for event in answer.json().get("entry", ())
        if any("Practitioner/dr" in str(agent) for agent in event["resource"]["agent"])
    ]


@pytest.mark.parametrize(
    "path",
    [
        "Observation/_history?_count=50",
        "_history?_count=50",
        "Observation/boris-o1",
        "Observation/boris-o1/_history",
        "Observation/boris-o1/_history/1",
        "Observation?_count=50",
    ],
)
def test_who_was_hidden_is_not_on_record(world, path):
    before = len(accesses(world, "anna")), len(accesses(world, "boris"))
    answer = world.ask("physician", "GET", path)
    assert "Petrov" not in answer.text
    after = len(accesses(world, "anna")), len(accesses(world, "boris"))
    is_shown = "boris" not in path
    assert after == (before[0] + is_shown, before[1])


def test_a_version_that_was_shown_is_named(world):
    assert world.ask("physician", "GET", "Observation/anna-o1/_history/1").status_code == 200
    what = [e for event in accesses(world, "anna") for e in event.get("entity", ())]
    assert any("anna-o1/_history/1" in str(entity.get("what")) for entity in what)


def test_a_list_may_be_asked_for_by_the_patients_name(world):
    world.ask("physician", "GET", "Patient/anna")
    for who, is_found in (("hospital", True), ("physician", False)):
        found = world.ask(who, "GET", "AuditEvent?patient.name=Ivanova&_count=50")
        assert found.status_code == 200, found.text
        assert bool(found.json().get("entry")) is is_found
    hidden = world.ask("physician", "GET", "AuditEvent?patient.name=Petrov")
    assert hidden.status_code == 200
    assert not hidden.json().get("entry")
