"""What a recipient gets: what the policy names, under pseudonyms, on dates that move together."""

import json
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.deidentify import LABEL, Masks, deidentify, shifted
from fhir_server.core.security.deidentify_policy import read_policy
from fhir_server.definitions import load

SECRET = "Kuznetsova"


@pytest.fixture(scope="module")
def types():
    return load().element_types


MASKS = Masks(
    lambda key: f"mask-of-{len(key.resource_id)}-{key.resource_type}",
    lambda key: 10 if key == ResourceKey("Patient", "1") else -10,
    lambda text: f"digest-{len(text)}",
)


@pytest.fixture(scope="module")
def give(types):
    def give(resource, elements, **more):
        values = {"types": {resource["resourceType"]: elements}, "shift_days": 30, **more}
        return deidentify(resource, read_policy("r", values, types), MASKS, types)

    return give


def observation(**more):
    return {
        "resourceType": "Observation",
        "id": "o1",
        "meta": {"versionId": "1", "lastUpdated": "2024-05-01T00:00:00Z"},
        "text": {"status": "generated", "div": f"<div>{SECRET}</div>"},
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}], "text": SECRET},
        "subject": {"reference": "Patient/1", "display": SECRET, "identifier": {"value": SECRET}},
        "effectiveDateTime": "2024-05-01T08:30:00+03:00",
        "valueQuantity": {"value": Decimal("71.50"), "unit": "/min", "code": "/min"},
        "note": [{"text": SECRET}],
        "extension": [{"url": "urn:x", "valueString": SECRET}],
        **more,
    }


ALL = ["status", "code", "subject", "effective", "value", "note", "identifier", "component"]


def test_what_is_not_named_is_left_out(give):
    assert give(observation(), ["status"]) == {
        "resourceType": "Observation",
        "id": "mask-of-2-Observation",
        "meta": {"security": [LABEL]},
        "status": "final",
    }


def test_a_type_that_is_not_named_is_not_given(give, types):
    policy = read_policy("r", {"types": {"Patient": ["gender"]}}, types)
    assert deidentify(observation(), policy, MASKS, types) is None


def test_names_and_free_text_stay_behind_even_where_elements_are_kept(give):
    given_ = give(observation(identifier=[{"value": SECRET}], valueString=SECRET), ALL)
    assert SECRET not in json.dumps(given_, default=str)
    assert given_["code"] == {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
    assert given_["subject"] == {"reference": "Patient/mask-of-1-Patient"}
    assert given_["valueQuantity"]["value"] == Decimal("71.50")


def test_dates_of_a_patient_move_together_and_keep_the_time_of_day(give):
    given_ = give(observation(issued="2024-05-02T08:30:00.123Z"), ["effective", "issued"])
    assert given_["effectiveDateTime"] == "2024-05-11T08:30:00+03:00"
    assert given_["issued"] == "2024-05-12T08:30:00.123Z"


def test_what_a_modifier_extension_may_turn_around_is_not_given(give):
    modifier = [{"url": "urn:not", "valueBoolean": True}]
    assert give(observation(modifierExtension=modifier), ALL) is None
    component = {"code": {"text": "x"}, "modifierExtension": modifier}
    assert give(observation(component=[component]), ALL) is None


def test_a_patient_is_generalised_as_the_policy_says(give):
    patient = {
        "resourceType": "Patient",
        "id": "1",
        "name": [{"family": SECRET}],
        "gender": "female",
        "birthDate": "1949-07-21",
        "identifier": [{"system": "urn:snils", "value": "13877203988"}],
        "address": [{"city": "Tula", "postalCode": "300001", "line": [SECRET]}],
    }
    actions = {
        "gender": "keep",
        "birthDate": "year",
        "identifier": "hash",
        "address.postalCode": "prefix:3",
        "address.city": "text",
    }
    assert give(patient, actions) == {
        "resourceType": "Patient",
        "id": "mask-of-1-Patient",
        "meta": {"security": [LABEL]},
        "gender": "female",
        "birthDate": "1949",
        "identifier": [{"system": "urn:snils", "value": "digest-21"}],
        "address": [{"city": "Tula", "postalCode": "300"}],
    }


def test_numbers_are_rounded(give):
    given_ = give(observation(), {"value": "round:5"})
    assert given_["valueQuantity"] == {"value": 70, "unit": "/min", "code": "/min"}


@pytest.mark.parametrize(
    "text", ["Patient/1/_history/3", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", "#p"]
)
def test_references_lead_to_pseudonyms_or_nowhere(give, text):
    given_ = give(observation(subject={"reference": text}), ["status", "subject"])
    assert "subject" not in given_ or given_["subject"]["reference"].startswith("Patient/mask-of")


@given(st.dates(date(1900, 1, 1), date(2100, 1, 1)), st.integers(-3650, 3650))
def test_a_moved_date_is_so_many_days_off_and_goes_back(day, days):
    moved = shifted(day.isoformat(), days)
    assert (date.fromisoformat(moved) - day).days == days
    assert shifted(moved, -days) == day.isoformat()


@given(
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    st.integers(-3650, 3650),
)
def test_the_time_between_two_dates_stays(one, other, days):
    moved = [date.fromisoformat(shifted(each.isoformat(), days)) for each in (one, other)]
    assert moved[0] - moved[1] == one - other


@pytest.mark.parametrize("text", ["2024", "2024-05", "2024-05-01", "2024-05-01T08:30:00Z"])
def test_a_moved_date_is_as_precise_as_it_was(text):
    assert len(shifted(text, 5)) == len(text)
    assert shifted(text, 0) == text


@pytest.mark.parametrize("text", ["", "today", "2024-13-01", "9999-12-31", "2024-05-01 08:30"])
def test_what_cannot_be_moved_is_left_out(text):
    assert shifted(text, 5) is None


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"types": {}},
        {"types": {"Patients": ["gender"]}},
        {"types": {"Patient": ["genders"]}},
        {"types": {"Patient": ["extension"]}},
        {"types": {"Patient": ["contained"]}},
        {"types": {"Patient": {"gender": "leave"}}},
        {"types": {"Patient": {"address.postalCode": "prefix:x"}}},
        {"types": {"Patient": {"address": "keep", "address.city": "text"}}},
        {"types": {"Patient": {"address.city": "text", "address": "keep"}}},
        {"types": {"Patient": ["gender"]}, "shift_days": -1},
        {"types": {"Patient": ["gender"]}, "shift": 1},
        {"types": {"Patient": ["gender"]}, "clients": "all"},
    ],
)
def test_a_policy_that_means_nothing_is_refused(values, types):
    with pytest.raises(ValueError, match=r"deidentification\.r"):
        read_policy("r", values, types)
