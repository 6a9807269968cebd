"""What a patient may read of the audit trail tells of nobody else either."""

import base64
import itertools
import json
import re

import pytest

from tests.conformance.access_paths import reading, writing
from tests.conformance.access_scene import ByHeader, World, populate
from tests.conformance.conftest import Server

SETTINGS = {"plan_templates": False, "validation": "warn", "views_seconds": 0, "audit": "on"}


@pytest.fixture(scope="module")
def worlds():
    """One in which Boris lives, and one in which he does not."""
    with (
        Server(ByHeader(), store="sqlite:///:memory:", **SETTINGS) as first,
        Server(ByHeader(), store="sqlite:///:memory:", **SETTINGS) as second,
    ):
        found = World(first), World(second)
        for world, with_boris in zip(found, (True, False), strict=True):
            populate(world, with_boris=with_boris)
        yield found


def events(world, who):
    """All that `who` may read of the trail, without what differs between any two servers."""
    answer = world.ask(who, "GET", "AuditEvent?_count=1000&_sort=date")
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    found = [json.dumps(entry["resource"]) for entry in bundle.get("entry", ())]
    return [re.sub(_DIFFERENT, "~", text) for text in found]


_DIFFERENT = (
    r'audit-[0-9.]+|127\.0\.0\.1:\d+|(?<="value": ")[0-9a-f]{12,}(?=")|'
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)


def asked(events):
    found = [each for text in events for each in json.loads(text).get("entity", ())]
    return [base64.b64decode(each["query"]).decode() for each in found if "query" in each]


def test_the_trail_of_ones_own_requests_tells_of_nobody_else(worlds):
    requests = [r for r in reading() if "/" not in r.path.partition("?")[0].strip("/")]
    everything = [*itertools.islice(requests, 0, None, 2), *writing()]
    for method, path, body, headers in everything:
        for world in worlds:
            world.ask("herself", method, path, body, **dict(headers))
    one, other = (
        [text for text in events(world, "herself") if '"altId": "anna"' in text] for world in worlds
    )
    assert len(one) > len(everything) / 2
    differences = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
    assert not differences, (len(differences), differences[0], asked(differences[0]))
    assert len(one) == len(other)


def test_a_history_that_hides_versions_is_no_look_at_them(worlds):
    world = worlds[0]
    for path in (
        "_history",
        "Observation/_history",
        "Observation/boris-moved/_history/1",
        "Patient/boris/_history",
    ):
        world.ask("herself", "GET", path)
    hers = [json.loads(each) for each in events(world, "other") if '"altId": "anna"' in each]
    kinds = {each["subtype"][0]["code"] for each in hers}
    # The last names him, the others found nothing of his.
    assert "history-instance" in kinds
    assert not kinds & {"history-system", "history-type", "vread"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_others_search_for_beside_me_is_not_told_to_me(worlds, method):
    world = worlds[0]
    query = "family=Petrow,Ivanova&_count=7&identifier:not=urn:snils|secret-9"
    if method == "GET":
        world.ask("hospital", "GET", f"Patient?{query}")
    else:
        form = {"Content-Type": "application/x-www-form-urlencoded", "x-test-principal": "hospital"}
        url = f"{world.server.fhir}/Patient/_search"
        assert world.session.post(url, query, headers=form, timeout=10).status_code == 200
    told = asked(events(world, "patient"))
    assert any("family=…&_count=7&identifier:not=…" in each for each in told)
    assert not any("Petrow" in each or "secret-9" in each for each in told)


@pytest.mark.parametrize(
    ("who", "sees"),
    [("physician", False), ("insurer", False), ("patient", True), ("hospital", True)],
)
def test_the_trail_is_for_the_patient_and_for_who_sees_everyone(worlds, who, sees):
    # They may see her Observations, all of them.
    found = worlds[0].ask(who, "GET", "Observation?patient=anna").json()
    assert found["entry"]
    assert bool(events(worlds[0], who)) is sees
