"""A resource made from a profile conforms to it; without one thing it demands it does not."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.core.validation.profiled import check_claims
from fhir_server.definitions import codes_of, load
from tests.unit.validation.generated import Generated

DEFINITIONS = load()
URL = "http://hl7.org/fhir/StructureDefinition/"
NAMES = ("bp", "heartrate", "resprate", "oxygensat", "bodytemp", "bodyheight", "bodyweight", "bmi")


@st.composite
def conforming(draw, name):
    profile = DEFINITIONS.profiles.find(URL + name)
    generated = Generated(draw, DEFINITIONS.profiles.rules, codes_of(DEFINITIONS.terminology))
    resource = generated.value(profile.root, profile.type_name, ())
    resource = {"resourceType": profile.type_name, "meta": {"profile": [URL + name]}, **resource}
    quantity = {"value": 1, "unit": "u", "system": "http://unitsofmeasure.org"}
    if name == "bp":
        for component in resource["component"]:
            component["valueQuantity"] = {**quantity, "code": "mm[Hg]"}
    else:
        whole = profile.root.children["value"].slices["valueQuantity"]
        resource["valueQuantity"] = generated.value(whole, "Quantity", ("valueQuantity",))
    return resource, generated.demanded


def errors(resource):
    issues = (
        *DEFINITIONS.validator.check(resource),
        *check_claims(lambda _: DEFINITIONS.profiles, resource, "refuse"),
    )
    return [issue for issue in issues if issue.severity == "error"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_what_is_made_from_a_profile_conforms_and_less_does_not(name, data):
    resource, demanded = data.draw(conforming(name))
    assert errors(resource) == []
    *steps, last = data.draw(st.sampled_from(demanded))
    less = copy.deepcopy(resource)
    holder = less
    for step in steps:
        holder = holder[step]
    del holder[last]
    assert errors(less) != []
