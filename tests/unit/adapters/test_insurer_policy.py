"""What a Consent permits, and that where it leaves room less goes."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.insurer.policy import Asked, Level, Party, is_covered, permitted
from fhir_server.core.date_range import load_zone

PARTY = Party(frozenset({"Organization/o1"}), frozenset({("urn:insurer", "46")}))
ASKED = Asked(
    PARTY, frozenset({"HPAYMT"}), datetime(2026, 10, 5, 12, tzinfo=UTC), load_zone("Europe/Moscow")
)
PRESSURE = {"system": "http://loinc.org", "code": "85354-9"}
GLUCOSE = {"system": "http://loinc.org", "code": "14743-9"}
READING = {
    "resourceType": "Observation",
    "id": "r1",
    "code": {"coding": [PRESSURE]},
    "effectiveDateTime": "2026-10-01",
}
US = [{"role": {"text": "r"}, "reference": {"reference": "Organization/o1"}}]
BY_IDENTIFIER = [
    {"role": {"text": "r"}, "reference": {"identifier": {"system": "urn:insurer", "value": "46"}}}
]
OTHER = [{"role": {"text": "r"}, "reference": {"reference": "Organization/o2"}}]
NOTHING, AGGREGATES, RESOURCE = Level


def consent(provision, status="active", **more):
    return {"resourceType": "Consent", "status": status, "provision": provision, **more}


def permit(**more):
    return {"type": "permit", "actor": US, **more}


def level(*consents):
    return permitted(READING, consents, ASKED)


@pytest.mark.parametrize(
    ("provision", "expected"),
    [
        (permit(), AGGREGATES),
        ({"type": "permit", "actor": BY_IDENTIFIER}, AGGREGATES),
        ({"type": "permit"}, NOTHING),
        ({"type": "permit", "actor": OTHER}, NOTHING),
        (permit(**{"class": [{"code": "Observation"}]}), RESOURCE),
        (permit(**{"class": [{"code": "CarePlan"}]}), NOTHING),
        (permit(code=[{"coding": [PRESSURE]}]), RESOURCE),
        (permit(code=[{"coding": [GLUCOSE]}]), NOTHING),
        (permit(data=[{"meaning": "instance", "reference": {"reference": "Observation/r1"}}]),
         RESOURCE),
        (permit(data=[{"meaning": "instance", "reference": {"reference": "Observation/r2"}}]),
         NOTHING),
        (permit(purpose=[{"code": "HPAYMT"}]), AGGREGATES),
        (permit(purpose=[{"code": "HRESCH"}]), NOTHING),
        (permit(period={"start": "2026-10-05", "end": "2026-10-05"}), AGGREGATES),
        (permit(period={"end": "2026-10-04"}), NOTHING),
        (permit(period={"start": "2026-10-06"}), NOTHING),
        (permit(period={"start": "someday"}), NOTHING),
        (permit(dataPeriod={"start": "2026-10-01"}), AGGREGATES),
        (permit(dataPeriod={"start": "2026-10-02"}), NOTHING),
        (permit(securityLabel=[{"code": "R"}]), NOTHING),
        (permit(modifierExtension=[{"url": "urn:x", "valueBoolean": True}]), NOTHING),
        (permit(provision=[{"type": "deny", "code": [{"coding": [PRESSURE]}]}]), NOTHING),
        (permit(provision=[{"type": "deny", "code": [{"coding": [GLUCOSE]}]}]), AGGREGATES),
        (permit(provision=[{"type": "permit", "code": [{"coding": [PRESSURE]}]}]), RESOURCE),
        ({"type": "deny", "provision": [permit()]}, AGGREGATES),
        ({"provision": [permit()]}, AGGREGATES),
        ({"type": "deny"}, NOTHING),
    ],
)  # fmt: skip
def test_a_provision_says(provision, expected):
    assert level(consent(provision)) is expected


@pytest.mark.parametrize(
    "status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"]
)
def test_only_an_active_consent_counts(status):
    assert level(consent(permit(), status)) is NOTHING


def test_a_denial_wins_over_every_permission():
    denial = consent({"type": "deny", "actor": US})
    assert level(consent(permit()), denial) is NOTHING
    assert level(denial, consent(permit())) is NOTHING
    assert level(consent(permit()), consent({"type": "deny", "actor": OTHER})) is AGGREGATES


def test_a_denial_that_is_not_understood_is_whole():
    strange = {"type": "deny", "actor": OTHER, "modifierExtension": [{"url": "urn:x"}]}
    assert level(consent(permit()), consent(strange)) is NOTHING


def test_a_consent_that_modifies_itself_permits_nothing():
    assert level(consent(permit(), modifierExtension=[{"url": "urn:x"}])) is NOTHING


def test_an_opt_out_is_for_everybody_and_an_opt_in_for_nobody():
    def rule(code):
        return {"status": "active", "policyRule": {"coding": [{"code": code}]}}

    assert level(rule("OPTOUT"), consent(permit())) is NOTHING
    assert level(rule("OPTIN")) is NOTHING


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"status": "cancelled"}, False),
        ({"payor": [{"reference": "Organization/o2"}]}, False),
        ({"payor": [BY_IDENTIFIER[0]["reference"]]}, True),
        ({"period": {"start": "2026-10-06"}}, False),
        ({"period": {"end": "2026-10-05"}}, True),
        ({"period": {"end": "2026-10-04"}}, False),
    ],
)
def test_a_coverage_is_in_force(change, expected):
    coverage = {"status": "active", "payor": [{"reference": "Organization/o1"}], **change}
    assert is_covered([coverage], ASKED) is expected


actors = st.sampled_from([None, US, OTHER])
parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["permit", "deny"]),
        "class": st.sampled_from([[{"code": "Observation"}], [{"code": "Goal"}]]),
        "purpose": st.sampled_from([[{"code": "HPAYMT"}], [{"code": "HRESCH"}]]),
        "actor": st.sampled_from([US, OTHER]),
    },
)
provisions = st.recursive(
    parts,
    lambda inner: st.builds(
        lambda part, more: {**part, "provision": more}, parts, st.lists(inner, max_size=2)
    ),
    max_leaves=5,
)


@given(st.lists(provisions, max_size=3))
def test_one_more_denial_leaves_nothing_whatever_the_others_say(found):
    assert level(*map(consent, found), consent({"type": "deny"})) is NOTHING


@given(st.lists(provisions, max_size=3))
def test_without_the_insurer_s_name_nothing_goes(found):
    stranger = ASKED._replace(party=Party(frozenset({"Organization/o9"}), frozenset()))
    assert permitted(READING, [consent(each) for each in found], stranger) is NOTHING
