"""AuditEvents: one a patient, none names another, shaped as IHE's patterns say."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.query_string import parse as parse_query
from fhir_server.core.security import audit_event, audit_record
from fhir_server.core.security.audit_record import (
    AuditRecord,
    Touched,
    action_of,
    by_patient,
    named_patients,
    outcome_of,
)
from fhir_server.core.security.principal import Principal

AT = datetime(2024, 5, 1, tzinfo=UTC)


def events(**members):
    record = AuditRecord(**{"interaction": "read", "action": "R", "address": "10.0.0.1", **members})
    return [v.resource() for _, v in audit_event.events(7, AT, audit_record.format(record))]


def test_a_record_of_nobodys_data_is_one_event():
    (event,) = events(touched=(), request="GET /fhir/CodeSystem/x")
    assert event["id"] == "audit-7"
    assert event["recorded"] == "2024-05-01T00:00:00.000Z"


def test_each_patient_has_an_event_that_names_no_other():
    touched = tuple(Touched(f"Patient/p{n}", (f"Observation/o{n}",)) for n in range(3))
    found = events(
        interaction="search-type",
        action="E",
        request="GET /fhir/Observation?patient=p0,p1,p2",
        touched=touched,
    )
    assert [event["id"] for event in found] == ["audit-7", "audit-7.1", "audit-7.2"]
    for number, event in enumerate(found):
        text = str(event) + "".join(
            base64.b64decode(each["query"]).decode() for each in event["entity"] if "query" in each
        )
        assert f"p{number}" in text
        assert not any(f"p{other}" in text for other in range(3) if other != number)
        assert not any(f"o{other}" in text for other in range(3) if other != number)


def test_the_path_of_another_patient_is_not_told():
    touched = (Touched("Patient/a"), Touched("Patient/b"))
    first, second = events(
        interaction="$everything",
        action="E",
        request="GET /fhir/Patient/a/$everything",
        touched=touched,
    )
    asked = [base64.b64decode(e["query"]).decode() for e in first["entity"] if "query" in e]
    assert asked == ["GET /fhir/Patient/a/$everything"]
    assert not any("query" in each for each in second["entity"])


def test_who_asked_is_told_and_the_token_by_its_name():
    principal = Principal(
        "user", "app", "anna", purposes=("TREAT",), token_id="t-1", roles=frozenset({"operator"})
    )
    (event,) = events(
        asker=audit_record.asker(principal), touched=(Touched("Patient/1", ("X/1",)),)
    )
    client, server, user = event["agent"]
    assert client["who"]["identifier"]["value"] == "app"
    assert client["policy"] == ["https://pmp.example/fhir/NamingSystem/access-token-id/t-1"]
    assert [client["requestor"], server["requestor"], user["requestor"]] == [False, False, True]
    assert user["who"]["identifier"]["value"] == "anna"
    assert user["purposeOfUse"][0]["coding"][0]["code"] == "TREAT"
    assert event["purposeOfEvent"] == user["purposeOfUse"]


@pytest.mark.parametrize(
    ("interaction", "action", "profile"),
    [
        ("read", "R", "PatientRead"),
        ("create", "C", "PatientCreate"),
        ("delete", "D", "PatientDelete"),
    ],
)
def test_a_pattern_is_claimed_for_what_succeeded_only(interaction, action, profile):
    touched = (Touched("Patient/1", ("Observation/1",)),)
    (event,) = events(interaction=interaction, action=action, touched=touched)
    assert event["meta"]["profile"][0].endswith("IHE.BasicAudit." + profile)
    # One entity with data each, as the patterns want it.
    assert len([e for e in event["entity"] if e["type"]["code"] == "2"]) == 1
    (failed,) = events(interaction=interaction, action=action, touched=touched, outcome="4")
    assert "profile" not in failed["meta"]


@pytest.mark.parametrize(
    ("resource_id", "place"),
    [("audit-7", (7, 0)), ("audit-7.2", (7, 2)), ("audit-07", None), ("audit-7.0", None),
     ("audit-", None), ("delivery-7", None), ("audit-" + "9" * 30, None)],
)  # fmt: skip
def test_an_id_says_where_the_record_is(resource_id, place):
    assert audit_event.parse_id(resource_id) == place


@pytest.mark.parametrize(
    ("query", "told"),
    [
        (
            "patient=Patient/a&code=http://loinc.org|1-8",
            "patient=Patient/a&code=http://loinc.org|1-8",
        ),
        ("patient=a,b", "patient=…"),
        ("subject:Patient=a&subject=b", "subject:Patient=a&subject=…"),
        ("family=Petrov&_count=2&date=ge2026", "family=…&_count=2&date=ge2026"),
        ("code:text=Petrov&Petrov", "code:text=…&…"),
        ("patient%3APatient.name=Petrov&pa%74ient=b", "patient%3APatient.name=…&pa%74ient=…"),
    ],
)
def test_what_was_searched_for_is_told_as_far_as_it_names_nobody_else(query, told):
    (event,) = events(
        interaction="search-type",
        action="E",
        request=f"GET /fhir/Observation?{query}",
        touched=(Touched("Patient/a"),),
    )
    (found,) = (each["query"] for each in event["entity"] if "query" in each)
    assert base64.b64decode(found).decode() == f"GET /fhir/Observation?{told}"


ids = st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True)
records = st.builds(
    AuditRecord,
    st.text(max_size=10),
    st.sampled_from("CRUDE"),
    request=st.text(max_size=30),
    reason=st.text(max_size=30),
    touched=st.lists(st.builds(Touched, st.text(max_size=9))).map(tuple),
)


@given(records)
def test_a_record_is_read_as_it_was_written(record):
    assert audit_record.parse(audit_record.format(record)) == record


@given(st.lists(st.tuples(st.sampled_from(["", "Patient/1", "Patient/2"]), ids)))
def test_grouping_loses_nothing(pairs):
    grouped = by_patient(pairs)
    assert sorted((t.patient, what) for t in grouped for what in t.what) == sorted(pairs)
    assert len({t.patient for t in grouped}) == len(grouped)


@pytest.mark.parametrize(
    ("path", "query", "patients"),
    [
        ("/fhir/Patient/1", "", ["Patient/1"]),
        ("/fhir/Patient/1/_history/2", "", ["Patient/1"]),
        ("/fhir/Patient/$stats", "", []),
        ("/fhir/Patient/_search", "", []),
        ("/fhir/Patient/a b", "", []),
        ("/fhir/Observation", "patient=1,Patient/2", ["Patient/1", "Patient/2"]),
        ("/fhir/Observation", "subject=Patient/1", ["Patient/1"]),
        ("/fhir/Observation", "subject:Patient=1", ["Patient/1"]),
        ("/fhir/Observation", "subject=1", []),
        ("/fhir/Observation", "subject=Group/1&patient.name=x", []),
    ],
)
def test_the_patients_that_a_request_names(path, query, patients):
    assert named_patients(path.split("/"), parse_query(query)) == patients


def test_actions_and_outcomes_are_fhirs():
    assert [action_of(i, m) for i, m in (("read", "GET"), ("readings", "POST"))] == ["R", "C"]
    assert action_of("readings", "GET") == "R"
    assert action_of("$everything", "GET") == "E"
    assert [outcome_of(status) for status in (200, 304, 404, 503)] == ["0", "0", "4", "8"]
