"""What is made from one of our profiles conforms to it; with one thing otherwise it does not."""

import copy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core.validation.profile import Node
from fhir_server.core.validation.profiled import check_thoroughly
from fhir_server.definitions import codes_of
from fhir_server.profile_folders import read_project_profiles
from tests.unit.validation.generated import Generated
from tests.unit.validation.project_outputs import DEFINITIONS, URL

NAMES = sorted(
    found["id"]
    for found in read_project_profiles(DEFINITIONS.profile_folders)
    if found["kind"] == "resource"
)
UNIT = {"14743-9": "mmol/L", "105272-9": "mmol/L", "41653-7": "mg/dL", "99504-3": "mg/dL"}
ABSENT = {
    "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "code": "unknown",
}
CODES = codes_of(DEFINITIONS.terminology)


def value_of(generated, profile):
    """A value where the profile allows one, as what has no component needs it."""
    node = profile.root.children.get("value", Node())
    node = node.slices.get("valueQuantity", node)
    if node.maximum == 0:
        return {}
    chosen = node.types[0].code if node.types else "Quantity"
    name = f"value{chosen}"
    return {name: generated.value(node, chosen, (name,))}


@st.composite
def conforming(draw, name):
    profile = DEFINITIONS.profiles.find(URL + name)
    generated = Generated(draw, DEFINITIONS.profiles.rules, CODES, has_options=True)
    resource = generated.value(profile.root, profile.type_name, ())
    resource = {"resourceType": profile.type_name, **resource}
    resource["meta"] = {**resource.get("meta", {}), "profile": [URL + name]}
    if profile.type_name == "Observation":
        resource |= value_of(generated, profile)
        for component in resource.get("component", ()):
            if not any(key.startswith("value") for key in component):
                component["dataAbsentReason"] = {"coding": [ABSENT]}
        code = resource["code"]["coding"][0].get("code")
        if code in UNIT:
            # The code follows the unit.
            resource["valueQuantity"]["code"] = UNIT[code]
        if name == "ctg-trace" and "focus" not in resource:
            resource["focus"] = [{"reference": "Patient/2"}]
    return resource, generated


def errors(name, resource):
    issues = (
        *DEFINITIONS.validator.check(resource),
        *check_thoroughly(DEFINITIONS.profiles, resource, [URL + name], "refuse"),
    )
    return [issue for issue in issues if issue.severity == "error"]


def holder_of(resource, steps):
    for step in steps:
        resource = resource[step]
    return resource


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_one_thing_otherwise_and_it_conforms_no_more(name, data):
    resource, generated = data.draw(conforming(name))
    assert errors(name, resource) == []
    wrong = copy.deepcopy(resource)
    if generated.fixed and data.draw(st.booleans()):
        *steps, last = data.draw(st.sampled_from(generated.fixed))
        holder_of(wrong, steps)[last] = "another"
    else:
        *steps, last = data.draw(st.sampled_from(generated.demanded))
        del holder_of(wrong, steps)[last]
    assert errors(name, wrong) != []
