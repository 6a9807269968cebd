"""Observations into transactions: what the registry is told, and that repeats do no harm."""

import json
from decimal import Decimal
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.national_registry.stand_in_journal import Journal, parse_token
from adapters.national_registry.translate import (
    SNILS_SYSTEM,
    Change,
    Rules,
    Token,
    group,
    is_wanted,
    needed,
    translate,
)
from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM as READING_SYSTEM
from fhir_server.errors import DeliveryRejected

RULES = Rules()
PATIENT = ResourceKey("Patient", "p1")
DEVICE = ResourceKey("Device", "d1")
OBSERVATION = ResourceKey("Observation", "o1")

KNOWN = {
    PATIENT: {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"versionId": "3"},
        "identifier": [
            {"system": "https://pmp.example/fhir/local", "value": "17"},
            {"system": SNILS_SYSTEM, "value": "11223344595"},
        ],
        "name": [{"family": "Ivanova", "given": ["Maria", "Petrovna"]}],
        "birthDate": "1961-02-03",
        "telecom": [{"system": "phone", "value": "+70000000000"}],
        "address": [{"text": "Kazan"}],
    },
    ResourceKey("Patient", "p2"): {
        "resourceType": "Patient",
        "identifier": [{"system": "https://pmp.example/fhir/local", "value": "18"}],
    },
    DEVICE: {
        "resourceType": "Device",
        "id": "d1",
        "identifier": [{"system": "urn:maker", "value": "BP|1,2"}],
        "type": {"text": "cuff"},
        "patient": {"reference": "Patient/p1"},
    },
    ResourceKey("CarePlan", "c1"): {
        "resourceType": "CarePlan",
        "identifier": [{"system": "urn:plan", "value": "7"}],
    },
}


def observation(value="r1", *, patient="p1", auxiliary=False, **more):
    meta = {"versionId": "1", "lastUpdated": "2024-05-01T00:00:00.000Z", "source": "#a"}
    if auxiliary:
        meta["tag"] = [
            {"system": "https://pmp.example/fhir/CodeSystem/device-standing", "code": "auxiliary"}
        ]
    return {
        "resourceType": "Observation",
        "id": "o1",
        "meta": meta,
        "identifier": [{"system": READING_SYSTEM, "value": value}],
        "status": "final",
        "code": {"text": "pulse"},
        "subject": {"reference": f"Patient/{patient}", "display": "M. I."},
        "effectiveDateTime": "2024-05-01T23:30:00+03:00",
        "device": {"reference": "Device/d1/_history/2"},
        "valueQuantity": {"value": Decimal("79.50"), "unit": "/min"},
        **more,
    }


def first(body, key=OBSERVATION):
    return Change(key, 1, body, None)


def by_type(bundle):
    found = {}
    for entry in bundle["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry)
    return found


def test_a_first_version_is_a_conditional_create_by_the_readings_identifier():
    entry = by_type(translate([first(observation())], KNOWN, RULES))["Observation"][0]
    assert entry["request"] == {
        "method": "POST",
        "url": "Observation",
        "ifNoneExist": f"identifier={READING_SYSTEM}|r1",
    }


def test_a_later_version_is_a_conditional_update():
    change = Change(OBSERVATION, 2, observation(status="amended"), observation())
    entry = by_type(translate([change], KNOWN, RULES))["Observation"][0]
    assert entry["request"] == {
        "method": "PUT",
        "url": f"Observation?identifier={READING_SYSTEM}|r1",
    }
    assert entry["resource"]["status"] == "amended"


def test_a_later_version_is_an_update_even_when_the_one_before_was_nothing_for_the_registry():
    change = Change(OBSERVATION, 2, observation(), observation(auxiliary=True))
    entry = by_type(translate([change], KNOWN, RULES))["Observation"][0]
    assert entry["request"]["method"] == "PUT"


@pytest.mark.parametrize("now", [None, observation(auxiliary=True)])
def test_what_the_registry_is_not_to_have_any_more_is_left_as_an_error(now):
    entries = by_type(translate([Change(OBSERVATION, 2, now, observation())], KNOWN, RULES))
    (entry,) = entries["Observation"]
    assert entry["request"]["method"] == "PUT"
    assert entry["resource"]["status"] == "entered-in-error"


def test_a_reading_that_became_another_patients_is_an_error_for_the_first():
    change = Change(OBSERVATION, 2, observation("r2", patient="p2"), observation("r1"))
    bundle = translate([change], KNOWN, RULES)
    told = {
        entry["resource"]["identifier"][0]["value"]: entry
        for entry in by_type(bundle)["Observation"]
    }
    assert told["r1"]["resource"]["status"] == "entered-in-error"
    assert told["r2"]["resource"]["status"] == "final"
    assert (
        told["r1"]["resource"]["subject"]["reference"]
        != told["r2"]["resource"]["subject"]["reference"]
    )


def test_what_was_never_wanted_is_not_told():
    change = Change(OBSERVATION, 2, None, observation(auxiliary=True))
    assert translate([change], KNOWN, RULES)["entry"] == []


def test_of_several_versions_of_one_resource_the_last_is_told_once():
    changes = [
        first(observation()),
        Change(OBSERVATION, 2, observation(status="amended"), observation()),
    ]
    (entry,) = by_type(translate(changes, KNOWN, RULES))["Observation"]
    assert (entry["request"]["method"], entry["resource"]["status"]) == ("PUT", "amended")


def test_our_ids_and_versions_stay_here():
    text = json.dumps(translate([first(observation())], KNOWN, RULES), default=str)
    for ours in ("Patient/p1", "Device/d1", '"o1"', "versionId", "lastUpdated", '"#a"'):
        assert ours not in text


def test_the_given_resources_are_not_changed():
    given_body = observation(auxiliary=True)
    before = resource_json.format(given_body)
    translate([first(given_body)], KNOWN, Rules(is_auxiliary_sent=True))
    assert resource_json.format(given_body) == before


def test_of_a_patient_only_what_tells_who_it_is_is_sent():
    (entry,) = by_type(translate([first(observation())], KNOWN, RULES))["Patient"]
    assert set(entry["resource"]) == {"resourceType", "identifier", "name", "birthDate"}
    assert entry["resource"]["identifier"] == [{"system": SNILS_SYSTEM, "value": "11223344595"}]
    assert entry["request"]["ifNoneExist"] == f"identifier={SNILS_SYSTEM}|11223344595"


def test_a_patient_without_any_identifier_is_rejected_and_named_by_key_alone():
    known = {**KNOWN, PATIENT: {"resourceType": "Patient", "name": [{"family": "Ivanova"}]}}
    with pytest.raises(DeliveryRejected, match="Patient/p1") as rejected:
        translate([first(observation())], known, RULES)
    assert "Ivanova" not in str(rejected.value)


@pytest.mark.parametrize(
    "body",
    [
        observation(patient="gone"),
        {k: v for k, v in observation().items() if k != "subject"},
        observation(subject={"reference": "https://elsewhere.example/Patient/1"}),
    ],
)
def test_a_reading_of_nobody_here_is_rejected(body):
    with pytest.raises(DeliveryRejected):
        translate([first(body)], KNOWN, RULES)


def test_references_point_into_the_bundle():
    bundle = translate([first(observation())], KNOWN, RULES)
    urls = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(urls) == len(bundle["entry"]) == 3
    body = by_type(bundle)["Observation"][0]["resource"]
    assert {body["subject"]["reference"], body["device"]["reference"]} < urls
    assert body["subject"]["display"] == "M. I."


def test_a_reference_to_an_observation_of_the_same_bundle_is_kept():
    other = ResourceKey("Observation", "o2")
    pulse = observation("r2", derivedFrom=[{"reference": "Observation/o1"}])
    bundle = translate([first(observation()), first(pulse, other)], KNOWN, RULES)
    pressure, pulse = by_type(bundle)["Observation"]
    assert pulse["resource"]["derivedFrom"] == [{"reference": pressure["fullUrl"]}]


def test_a_reference_to_what_is_not_sent_names_its_identifier_or_its_type():
    body = observation(
        basedOn=[{"reference": "CarePlan/c1"}],
        hasMember=[{"reference": "Observation/unknown"}],
        focus=[{"reference": "#mother"}, {"identifier": {"value": "1"}}],
        note=[{"text": "x", "authorReference": {"reference": "Practitioner/z", "display": "Dr"}}],
    )
    (entry,) = by_type(translate([first(body)], KNOWN, RULES))["Observation"]
    sent = entry["resource"]
    assert sent["basedOn"] == [
        {"type": "CarePlan", "identifier": {"system": "urn:plan", "value": "7"}}
    ]
    assert sent["hasMember"] == [{"type": "Observation"}]
    assert sent["focus"] == body["focus"]
    assert sent["note"][0]["authorReference"] == {"type": "Practitioner", "display": "Dr"}


def test_two_resources_with_one_identifier_share_an_entry():
    twin = ResourceKey("Device", "d2")
    known = {**KNOWN, twin: KNOWN[DEVICE]}
    second = observation("r2", device={"reference": "Device/d2"})
    changes = [first(observation()), first(second, ResourceKey("Observation", "o2"))]
    assert len(by_type(translate(changes, known, RULES))["Device"]) == 1


def test_decimals_keep_their_digits():
    body = resource_json.format(translate([first(observation())], KNOWN, RULES))
    assert b"79.50" in body


def test_an_auxiliary_devices_reading_is_wanted_only_when_configured():
    assert not is_wanted(observation(auxiliary=True), RULES)
    assert is_wanted(observation(auxiliary=True), Rules(is_auxiliary_sent=True))


def test_an_observation_that_no_reading_made_is_not_wanted():
    assert not is_wanted({**observation(), "identifier": [{"value": "r1"}]}, RULES)


@pytest.mark.parametrize(
    ("times", "day"),
    [
        ({"effectiveDateTime": "2024-05-01T23:30:00+03:00"}, "2024-05-01"),
        ({"effectiveInstant": "2024-05-02T00:30:00+03:00"}, "2024-05-02"),
        ({"effectivePeriod": {"start": "2024-05", "end": "2024-06"}}, "2024-05"),
        ({}, ""),
    ],
)
def test_a_group_is_the_patients_day_as_written(times, day):
    assert group({"subject": {"reference": "Patient/p1"}, **times}) == f"Patient/p1/{day}"


def test_needed_are_the_resources_that_both_states_refer_to():
    change = Change(OBSERVATION, 2, observation(patient="p2"), observation(patient="p1"))
    assert needed([change]) == {PATIENT, ResourceKey("Patient", "p2"), DEVICE}


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_identifier_survives_its_way_through_a_criterion(system, value):
    criterion = Token(system, value).criterion()
    assert criterion.isascii()
    assert " " not in criterion
    assert "&" not in criterion
    name, _, token = criterion.partition("=")
    assert (name, parse_token(unquote(token))) == ("identifier", (system, value))


states = st.lists(
    st.sampled_from(["final", "amended", "corrected", "deleted", "auxiliary", "other"]),
    min_size=1,
    max_size=5,
)


def body_of(state, number):
    if state == "deleted":
        return None
    if state == "auxiliary":
        return observation(f"r{number}", auxiliary=True)
    if state == "other":
        return observation(f"moved-{number}", patient="p2")
    return observation(f"r{number}", status=state)


@settings(max_examples=60, deadline=None)
@given(st.lists(states, min_size=1, max_size=3), st.data())
def test_however_batches_are_cut_and_repeated_each_reading_is_there_once(histories, data):
    """Versions of one resource in order, any batching, any batch sent again at once."""
    waiting = []
    for number, history in enumerate(histories):
        bodies = [None, *(body_of(state, number) for state in history)]
        waiting.append(
            [
                Change(ResourceKey("Observation", f"o{number}"), index, bodies[index], before)
                for index, before in enumerate(bodies[:-1], start=1)
            ]
        )
    journal = Journal(Path(":memory:"))
    while any(waiting):
        batch = []
        for changes in waiting:
            taken = len(changes) - data.draw(st.integers(0, len(changes)))
            batch += changes[:taken]
            del changes[:taken]
        for _ in range(data.draw(st.integers(1, 3))):
            bundle = translate(batch, KNOWN, RULES)
            if bundle["entry"]:
                journal.transact(bundle)
    there = {}
    for each in journal.all("Observation", 1_000):
        there.setdefault(each["identifier"][0]["value"], []).append(each["status"])
    journal.close()
    for number, history in enumerate(histories):
        last = body_of(history[-1], number)
        expected = {} if last is None or history[-1] == "auxiliary" else {
            last["identifier"][0]["value"]: [last["status"]]
        }  # fmt: skip
        of_this = {k: v for k, v in there.items() if k in (f"r{number}", f"moved-{number}")}
        assert {k: v for k, v in of_this.items() if v != ["entered-in-error"]} == expected
