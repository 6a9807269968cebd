"""Who may hand in readings, enrol patients and look through what waits."""

import pytest

from tests.conformance.access_scene import (
    CONTROLS,
    PRINCIPALS,
    ByHeader,
    World,
    consent,
    directory,
    record,
)
from tests.conformance.conftest import Server

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def world():
    settings = {"plan_templates": False, "validation": "warn", "views_seconds": 0}
    with Server(ByHeader(), store="sqlite:///:memory:", **settings) as server:
        world = World(server)
        world.put(*directory(), *record("anna", "Ivanova", "dr", 60))
        # That somebody denies something shuts no door of the hospital's.
        world.put(consent("anna-n", "anna", "deny"))
        yield world


DOORS = {
    "/readings/nothing": ("POST", {"gateway", "hospital"}),
    "/readings/quarantine": ("GET", {"hospital"}),
    "/readings/quarantine/reprocess": ("POST", {"hospital"}),
    "/enrolments/nothing": ("POST", {"hospital"}),
}


@pytest.mark.parametrize("path", sorted(DOORS))
@pytest.mark.parametrize("who", sorted({**PRINCIPALS, **CONTROLS}))
def test_a_door_opens_for_those_who_answer_for_everyone(world, who, path):
    method, welcome = DOORS[path]
    answer = world.ask(who, method, path, {} if method == "POST" else None, **JSON)
    assert (answer.status_code != 403) is (who in welcome), answer.text
    assert answer.status_code < 500


def test_nobody_gets_in_without_showing_who_they_are(world):
    for method, path in (("GET", "Patient/anna"), ("GET", "/readings/quarantine")):
        assert world.ask("stranger", method, path).status_code == 401
    assert world.ask("stranger", "GET", "metadata").status_code == 200
    assert world.ask("nobody", "GET", "Patient/anna").status_code == 403
