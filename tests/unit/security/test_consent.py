"""Consents: the newest decides, the innermost within it, and what is unclear never opens."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.consent import Asker, boundaries, read, rule
from fhir_server.core.version import Version

ZONE = ZoneInfo("Europe/Moscow")
NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
DOCTOR = Asker(frozenset({"Practitioner/dr", "Organization/clinic"}), ("TREAT",))
TYPES = "http://hl7.org/fhir/resource-types"


def version(provision, sequence=1, **more):
    resource = {
        "resourceType": "Consent",
        "id": f"c{sequence}",
        "status": "active",
        "patient": {"reference": "Patient/a"},
        "dateTime": "2024-01-01",
        "provision": provision,
        **more,
    }
    body = resource_json.format(resource)
    key = ResourceKey("Consent", f"c{sequence}")
    return Version(key, 1, NOW, "create", body, sequence)


def ruling(*versions, asker=DOCTOR, default=True):
    terms = [terms for each in versions if (terms := read(each, ZONE)) is not None]
    return rule(terms, asker, NOW, default)


def classes(*names):
    return [{"system": TYPES, "code": name} for name in names]


def data(*references, meaning="instance"):
    return [{"meaning": meaning, "reference": {"reference": each}} for each in references]


def test_without_a_consent_the_default_decides():
    for default in (True, False):
        assert ruling(default=default).permits("Observation") is default


def test_the_newest_by_its_own_date_decides_whenever_it_was_stored():
    newer = version({"type": "deny"}, 1, dateTime="2024-03-01")
    older = version({"type": "permit"}, 2, dateTime="2024-02")
    assert not ruling(newer, older).permits("Observation")


def test_of_one_moment_the_last_that_was_written_decides():
    assert ruling(version({"type": "deny"}, 1), version({"type": "permit"}, 2)).permits("Goal")


@pytest.mark.parametrize(
    "status", ["draft", "proposed", "rejected", "inactive", "entered-in-error"]
)
def test_only_active_consents_count(status):
    assert read(version({"type": "deny"}, status=status), ZONE) is None


def test_an_older_one_decides_what_the_newest_leaves_open():
    newer = version({"type": "deny", "class": classes("Goal")}, 2, dateTime="2024-03-01")
    older = version({"type": "permit"}, 1)
    found = ruling(newer, older, default=False)
    assert found.permits("Observation")
    assert not found.permits("Goal")


def test_an_exception_is_about_no_more_than_what_it_is_an_exception_from():
    found = ruling(
        version(
            {"type": "deny", "class": classes("Observation"), "provision": [{"type": "permit"}]}
        ),
        default=False,
    )
    assert found.permits("Observation")
    assert not found.permits("Goal")


def test_the_innermost_provision_that_applies_decides():
    to_others = [{"role": {"text": "x"}, "reference": {"reference": "Practitioner/other"}}]
    provision = {
        "type": "permit",
        "provision": [
            {
                "type": "deny",
                "class": classes("Observation"),
                "provision": [
                    {"type": "permit", "data": data("Observation/1")},
                    {"type": "permit", "actor": to_others},
                ],
            }
        ],
    }
    found = ruling(version(provision), default=False)
    assert found.permits("Goal")
    assert not found.permits("Observation")
    assert found.by_key == {ResourceKey("Observation", "1"): True}


def test_a_purpose_that_is_not_covered_has_no_permit_and_any_that_is_named_a_denial():
    both = Asker(frozenset(), ("TREAT", "HRESCH"))
    purpose = [{"code": "TREAT"}]
    permit = version({"type": "permit", "purpose": purpose})
    deny = version({"type": "deny", "purpose": purpose})
    assert not ruling(permit, asker=both, default=False).permits("Goal")
    assert not ruling(deny, asker=both).permits("Goal")


@pytest.mark.parametrize(
    "more",
    [
        {"code": [{"text": "x"}]},
        {"securityLabel": [{"code": "R"}]},
        {"dataPeriod": {"start": "2024"}},
        {"class": [{"system": "urn:other", "code": "x"}]},
        {"data": data("Observation/1", meaning="related")},
        {"actor": [{"role": {"text": "x"}, "reference": {"display": "x"}}]},
        {"action": [{"coding": [{"code": "correct"}]}]},
        {"period": {"start": "2024-06-01", "end": "2024-01-01"}},
        {"period": {"start": "nonsense"}},
    ],
)
def test_what_is_not_understood_never_opens(more):
    assert not ruling(version({"type": "permit", **more}), default=False).permits("Observation")
    inner = {"type": "deny", "provision": [{"type": "permit", **more}]}
    assert not ruling(version(inner)).permits("Observation")
    around = {"type": "permit", **more, "provision": [{"type": "permit"}]}
    assert not ruling(version(around), default=False).permits("Observation")


@pytest.mark.parametrize(
    "broken",
    [
        "permit",
        ["permit"],
        {"type": ["permit"]},
        {"type": "permit", "actor": "x"},
        {"type": "permit", "actor": ["x"]},
        {"type": "permit", "purpose": 5},
        {"type": "permit", "provision": {"type": "permit"}},
        {"type": "permit", "class": [None]},
        {"type": "permit", "data": [[]]},
        {"type": "permit", "period": [1]},
        {"type": "permit", "purpose": {}},
        {"type": "permit", "actor": []},
    ],
)
def test_one_of_the_wrong_shape_opens_nothing(broken):
    assert not opened(ruling(version(broken), default=False))


def test_it_begins_and_ends_with_its_period_and_says_when():
    period = {"start": "2024-05-01", "end": "2024-05-01"}
    terms = read(version({"type": "deny", "period": period}), ZONE)
    assert terms is not None
    start, end = boundaries(terms.provision)
    assert end - start == 24 * 3600 * 1_000_000
    assert not ruling(version({"type": "deny", "period": period})).permits("Goal")
    assert ruling(version({"type": "deny", "period": {"end": "2024-04-30"}})).permits("Goal")


_narrowings = st.fixed_dictionaries(
    {},
    optional={
        "class": st.just(classes("Observation")),
        "data": st.just(data("Observation/1")),
        "purpose": st.sampled_from([[{"code": "TREAT"}], [{"code": "HPAYMT"}]]),
        "period": st.sampled_from([{"end": "2020"}, {"start": "2020"}, {"start": "2030"}]),
        "actor": st.sampled_from(["Practitioner/dr", "Organization/x"]).map(
            lambda name: [{"role": {"text": "x"}, "reference": {"reference": name}}]
        ),
        "code": st.just([{"text": "x"}]),
    },
)
_provisions = st.recursive(
    st.builds(
        lambda said, more: {"type": said, **more}, st.sampled_from(["permit", "deny"]), _narrowings
    ),
    lambda inner: st.builds(
        lambda said, more, within: {"type": said, **more, "provision": within},
        st.sampled_from(["permit", "deny"]),
        _narrowings,
        st.lists(inner, min_size=1, max_size=2),
    ),
    max_leaves=4,
)


def opened(found) -> set[str]:
    keys = {str(key) for key, is_permit in found.by_key.items() if is_permit}
    return keys | {name for name in ("Observation", "Goal") if found.permits(name)}


def without_permits(provision):
    inner = [without_permits(each) for each in provision.get("provision", ())]
    return {**provision, "type": "deny", "provision": inner}


@given(_provisions)
def test_a_consent_of_denials_alone_opens_nothing(provision):
    assert not opened(ruling(version(without_permits(provision)), default=False))


@given(_provisions)
def test_a_newer_denial_of_everything_leaves_nothing_of_an_older_consent(provision):
    newest = version({"type": "deny"}, 2, dateTime="2024-04-01")
    assert not opened(ruling(version(provision), newest))


@given(_provisions)
def test_a_permit_that_is_narrowed_opens_no_more(provision):
    whole = {"type": "permit", "provision": [provision]}
    narrowed = {**whole, "code": [{"text": "x"}]}
    wide, narrow = (opened(ruling(version(each), default=False)) for each in (whole, narrowed))
    assert not narrow or narrow <= wide
    assert not narrow
