"""What claims say: whether a token is for us and now, and whom it names."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security import claims
from fhir_server.errors import Unauthenticated

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
NAMES = (
    "iss", "aud", "exp", "nbf", "iat", "sub", "scope", "scp", "client_id", "azp", "fhirUser",
    "patient", "purposes", "jti",
)  # fmt: skip


def check(now=1_000.0, leeway=0.0, **changes):
    given_claims = {"iss": "us", "aud": "here", "exp": 1_100, **changes}
    return claims.check(given_claims, "us", ("here",), now, leeway)


def test_a_token_is_good_from_its_beginning_until_just_before_its_end():
    assert check(nbf=1_000, iat=1_000) == 1_100
    assert check(now=1_099.9) == 1_100
    for now, more in ((1_100.0, {}), (999.0, {"nbf": 1_000}), (990.0, {"iat": 1_000})):
        with pytest.raises(Unauthenticated):
            check(now=now, **more)


def test_clocks_may_differ_by_the_leeway_at_both_ends():
    assert check(now=1_109.0, leeway=10) == 1_110
    assert check(now=991.0, leeway=10, nbf=1_000)
    with pytest.raises(Unauthenticated):
        check(now=1_110.0, leeway=10)


@given(st.dictionaries(st.sampled_from(NAMES), JSON))
def test_whatever_stands_in_them_they_are_good_or_refused(said):
    for look in (
        lambda: claims.check(said, "us", ("here",), 1_000.0),
        lambda: claims.principal_of(said),
    ):
        with suppress(Unauthenticated):
            look()


def test_a_person_has_no_rights_of_programs():
    for more in ({"fhirUser": "Practitioner/7"}, {"scope": "system/*.cruds user/*.rs"}):
        found = claims.principal_of({"scope": "system/*.cruds", **more})
        assert found.kind == "user"
        assert not [scope for scope in found.scopes if scope.context == "system"]
    assert claims.principal_of({"scope": "system/*.cruds"}).kind == "system"


def test_a_patients_own_account_is_about_that_patient():
    found = claims.principal_of({"scope": "patient/*.rs", "fhirUser": "https://x/fhir/Patient/7"})
    assert (found.kind, found.patient) == ("patient", ResourceKey("Patient", "7"))
    with pytest.raises(Unauthenticated):
        claims.principal_of({"fhirUser": "Patient/7", "patient": "8"})


def test_a_physician_with_one_patient_in_sight_is_a_user():
    found = claims.principal_of(
        {"scope": "patient/*.rs", "fhirUser": "Practitioner/7", "patient": "8"}
    )
    assert (found.kind, found.patient) == ("user", ResourceKey("Patient", "8"))
    silent = claims.principal_of({"scope": "patient/*.rs", "patient": "8"})
    assert silent.kind == "patient"
    # Nobody's patient: there is nothing that it could be about.
    assert claims.principal_of({"scope": "patient/*.rs"}).patient is None
