"""What a scope grants, in both versions of SMART's language; a misspelt one grants nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.security import scope as smart
from fhir_server.core.security.scope import Scope

_SCOPES = st.builds(
    Scope,
    st.sampled_from(["patient", "user", "system"]),
    st.sampled_from(["*", "Observation", "Patient"]),
    st.frozensets(st.sampled_from("cruds"), min_size=1),
    st.lists(
        st.tuples(
            st.sampled_from(["category", "code", "_id"]),
            st.text(min_size=1, alphabet="abc|:/ ё&=+"),
        ),
        max_size=2,
        unique=True,
    ).map(tuple),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("patient/Observation.rs", Scope("patient", "Observation", frozenset("rs"))),
        ("user/*.cruds", Scope("user", "*", frozenset("cruds"))),
        ("system/Patient.read", Scope("system", "Patient", frozenset("rs"))),
        ("system/*.write", Scope("system", "*", frozenset("cud"))),
        ("system/*.*", Scope("system", "*", frozenset("cruds"))),
        (
            "patient/Observation.rs?category=http://x|laboratory&code=a%26b",
            Scope(
                "patient",
                "Observation",
                frozenset("rs"),
                (("category", "http://x|laboratory"), ("code", "a&b")),
            ),
        ),
    ],
)
def test_a_grant_is_read(text, expected):
    assert smart.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "openid",
        "launch/patient",
        "patient/Observation",
        "patient/Observation.",
        "patient/Observation.sr",
        "patient/Observation.rr",
        "patient/Observation.reads",
        "patient/observation.rs",
        "admin/Observation.rs",
        "patient/Observation.rs?",
        "patient/Observation.rs?category",
        "patient/Observation.rs?category=",
        "patient/Observation.rs?=laboratory",
        "patient/Observation.rs?category=laboratory&",
        "patient/Observation.rs?category=%FF",
        "patient/Observation.read?category=laboratory",
        "patient/Observation.rs\n",
        "patient/Ob*.rs",
    ],
)
def test_what_cannot_be_read_grants_nothing(text):
    assert smart.parse(text) is None


@given(_SCOPES)
def test_a_grant_is_written_as_it_is_read(scope):
    assert smart.parse(smart.format(scope)) == scope


@given(_SCOPES, _SCOPES)
def test_an_intersection_grants_no_more_than_either(asked, limit):
    both = smart.intersect(asked, limit)
    if both is None:
        return
    for one in (asked, limit):
        assert both.permissions <= one.permissions
        assert one.resource_type in ("*", both.resource_type)
        assert set(one.params) <= set(both.params)
        assert both.context == one.context


def test_what_is_not_allowed_is_not_given():
    allowed = smart.parse_all("system/Observation.rs user/Patient.r")
    asked = "system/*.cruds user/*.* patient/Patient.rs openid offline_access system/Patient.r"
    assert smart.narrow(asked, allowed, ("openid",)) == (
        "system/Observation.rs",
        "user/Patient.r",
        "openid",
    )


def test_a_list_of_thousands_is_not_read_to_its_end():
    words = " ".join(["openid"] * smart.MAX_SCOPES + ["system/*.cruds"])
    assert smart.parse_all(words) == ()
