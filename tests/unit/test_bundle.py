"""Bundles as answers: https://hl7.org/fhir/R4/bundle.html."""

import json
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import bundle, resource_json
from fhir_server.core.bundle import Link, ResponseEntry, SearchEntry
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.definitions import load

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)
KEY = ResourceKey("Patient", "1")
BODY = b'{"resourceType":"Patient","id":"1","x":1.50}'
VERSION = Version(KEY, 1, NOW, "create", BODY)
BASE = "http://here/fhir"
CHECK = load().validator.check


def test_searchset_splices_bodies_as_they_are():
    entries = [SearchEntry(KEY, BODY, "match")]
    made = bundle.searchset(BASE, entries, links=[Link("self", BASE)], total=1, now=NOW)
    assert BODY in made
    assert json.loads(made) == {
        "resourceType": "Bundle",
        "meta": {"lastUpdated": "2024-03-01T12:00:00.000Z"},
        "type": "searchset",
        "total": 1,
        "link": [{"relation": "self", "url": BASE}],
        "entry": [
            {
                "fullUrl": f"{BASE}/Patient/1",
                "resource": json.loads(BODY),
                "search": {"mode": "match"},
            }
        ],
    }


@given(
    st.sampled_from(["http://here/fhir", 'https://h.example:1/a b/"ü']),
    st.lists(st.tuples(st.from_regex(r"[A-Za-z0-9.\-]{1,64}", fullmatch=True), st.booleans())),
)
def test_stored_matches_are_written_as_any_others(base_url, made):
    entries = []
    for resource_id, is_usual in made:
        # What stands first is not what another writer would have put there.
        rest = {"meta": {"versionId": "1"}, "note": '"id":"other"', "contained": [{"id": "c"}]}
        named = {"resourceType": "Patient", "id": resource_id}
        body = resource_json.format(named | rest if is_usual else rest | named)
        entries.append(SearchEntry(ResourceKey("Patient", resource_id), body, "match"))
    links = [Link("self", BASE)]
    assert bundle.searchset_of(
        base_url, "Patient", [entry.body for entry in entries], links=links, now=NOW
    ) == bundle.searchset(base_url, entries, links=links, total=None, now=NOW)


def test_empty_lists_are_left_out():
    made = bundle.searchset(BASE, [], links=[], total=0, now=NOW)
    assert set(json.loads(made)) == {"resourceType", "meta", "type", "total"}


def test_deletion_in_a_history_has_no_resource():
    gone = VERSION._replace(version_id=2, interaction="delete", body=None)
    made = bundle.history(BASE, [gone, VERSION], links=[], total=None, now=NOW)
    first, second = json.loads(made)["entry"]
    assert "resource" not in first
    assert first["request"] == {"method": "DELETE", "url": "Patient/1"}
    assert second["request"] == {"method": "POST", "url": "Patient"}


def test_bundles_are_valid():
    body = b'{"resourceType":"Patient","id":"1"}'
    version = VERSION._replace(body=body)
    outcome = b'{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"value"}]}'
    for made in (
        bundle.searchset(
            BASE,
            [SearchEntry(KEY, body, "match"), SearchEntry(None, outcome, "outcome")],
            links=[Link("self", BASE)],
            total=None,
            now=NOW,
        ),
        bundle.history(BASE, [version], links=[], total=None, now=NOW),
        bundle.responses(
            "batch-response",
            BASE,
            [
                ResponseEntry("201 Created", KEY, version, f"{BASE}/Patient/1/_history/1", body),
                ResponseEntry("404 Not Found", outcome=outcome),
            ],
        ),
    ):
        assert CHECK(json.loads(made)) == ()
