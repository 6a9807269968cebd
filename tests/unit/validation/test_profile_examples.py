"""R4's own examples break no profile that they claim, and no invariant of their type."""

import tarfile
from pathlib import Path

import pytest

from fhir_server.core import resource_json
from fhir_server.core.validation.profiled import check_claims, check_thoroughly
from fhir_server.definitions import load

ARCHIVE = Path(__file__).parents[2] / "r4_examples" / "examples.tar.xz"
TYPES = {"Observation", "Patient", "Device", "CarePlan", "Goal", "Bundle"}


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture(scope="module")
def examples():
    with tarfile.open(ARCHIVE) as tar:
        resources = [resource_json.parse_resource(tar.extractfile(m).read()) for m in tar]
    return [resource for resource in resources if resource["resourceType"] in TYPES]


def test_no_false_alarm_for_a_claim(definitions, examples):
    claiming = [r for r in examples if (r.get("meta") or {}).get("profile")]
    assert len(claiming) > 10
    for resource in claiming:
        issues = check_claims(lambda _: definitions.profiles, resource, "ignore")
        errors = [issue for issue in issues if issue.severity == "error"]
        assert errors == [], resource["id"]


def test_no_false_alarm_from_the_invariants_of_the_type(definitions, examples):
    assert len(examples) > 100
    for resource in examples:
        issues = check_thoroughly(definitions.profiles, resource, (), "ignore")
        assert [i for i in issues if i.severity != "information"] == [], resource["id"]
        assert [i for i in issues if "cannot be evaluated" in i.diagnostics] == []
