"""Wrong resources, one change each from a good one, and what each must be told.

`wrong_resources.json`: profiles that use what profiles can say, a good resource for each, and
the changes as [resource, operation, place, value, [path and code of every error]].
"""

import copy
from pathlib import Path

import pytest

from fhir_server.core import resource_json
from fhir_server.core.validation.profiled import check_claims
from fhir_server.definitions import load

DATA = resource_json.parse((Path(__file__).parent / "wrong_resources.json").read_bytes())


@pytest.fixture(scope="module")
def faults():
    definitions = load()
    profiles = definitions.profiles.having(DATA["profiles"])

    def find(resource):
        claims = check_claims(lambda _: profiles, resource, "warn")
        return [*definitions.validator.check(resource), *claims]

    return find


def change(resource, operation, place, value=None):
    *steps, last = place.strip("/").split("/")
    for step in steps:
        resource = resource[int(step)] if isinstance(resource, list) else resource[step]
    if not isinstance(resource, list):
        if operation == "remove":
            del resource[last]
        else:
            resource[last] = value
    elif operation == "remove":
        del resource[int(last)]
    elif operation == "add":
        resource.insert(len(resource) if last == "-" else int(last), value)
    else:
        resource[int(last)] = value


@pytest.mark.parametrize("name", DATA["good"])
def test_a_good_resource_has_no_error(faults, name):
    assert [i for i in faults(DATA["good"][name]) if i.severity == "error"] == []


@pytest.mark.parametrize("fault", DATA["faults"], ids=lambda fault: "-".join(fault[:3]))
def test_a_wrong_resource_is_told_its_faults(faults, fault):
    base, *how, expected = fault
    resource = copy.deepcopy(DATA["good"][base])
    change(resource, *how)
    before = copy.deepcopy(resource)
    errors = [issue for issue in faults(resource) if issue.severity == "error"]
    assert sorted({(i.expression, i.code) for i in errors}) == [tuple(e) for e in expected]
    assert resource == before


def test_what_is_told_names_the_profile_and_the_rule_and_no_value(faults):
    resource = copy.deepcopy(DATA["good"]["patient"])
    resource["identifier"][0]["value"] = "99999999999999"
    told = [issue for issue in faults(resource) if issue.source]
    assert {issue.source.partition("#")[2] for issue in told} == {
        "tp-2",
        "Patient.identifier:snils.value maxLength",
    }
    assert all("9999" not in issue.diagnostics for issue in told)
    assert all(issue.source.startswith("https://pmp.example/fhir/") for issue in told)


def test_every_type_has_its_share_of_the_table():
    counted = {}
    for base, *_ in DATA["faults"]:
        name = DATA["good"][base]["resourceType"]
        counted[name] = counted.get(name, 0) + 1
    assert sum(counted.values()) >= 150
    assert min(counted.values()) >= 14
    assert counted.keys() == {"Observation", "Patient", "Device", "CarePlan", "Goal", "Bundle"}
