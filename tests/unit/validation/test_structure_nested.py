"""Faults within contained resources, Bundles and what nests or repeats without end."""

import pytest

from tests.unit.validation.faultless import GONE, OBSERVATION, PATIENT, changed


@pytest.mark.parametrize(
    ("contained", "code", "expression"),
    [
        ([{"resourceType": "Device", "id": "d", "status": "x"}], "code-invalid", "[0].status"),
        (
            [{"resourceType": "Device", "id": "d", "meta": {"versionId": "1"}}],
            "invariant",
            "[0].meta",
        ),
        (
            [{"resourceType": "Device", "id": "d", "meta": {"security": [{"code": "x"}]}}],
            "invariant",
            "[0].meta",
        ),
        (
            [
                {
                    "resourceType": "Device",
                    "id": "d",
                    "contained": [{"resourceType": "Basic", "id": "b", "code": {"text": "x"}}],
                }
            ],
            "invariant",
            "[0].contained",
        ),
        (
            [{"resourceType": "Device", "id": "d"}, {"resourceType": "Device", "id": "e"}],
            "invariant",
            "[1]",
        ),
        ([{"resourceType": "Patient", "id": "d"}], None, None),
        ([{"resourceType": "Device", "id": "d"}, {"id": "e"}], "structure", "[1]"),
        ([{"resourceType": "Device", "id": "d"}, 3], "structure", "[1]"),
    ],
)
def test_a_fault_of_a_contained_resource_is_named(validator, contained, code, expression):
    observation = changed(OBSERVATION, ["device", "reference"], "#d")
    observation["contained"] = contained

    found = [(issue.code, issue.expression) for issue in validator.check(observation)]

    if code is None:
        assert found == [("value", "Observation.device.reference")]
    else:
        assert (code, f"Observation.contained{expression}") in found


def test_two_contained_resources_with_one_id_are_a_fault(validator):
    observation = changed(OBSERVATION, ["device", "reference"], "#d")
    observation["contained"] = [{"resourceType": "Device", "id": "d"}] * 2

    found = [issue.expression for issue in validator.check(observation)]

    assert found == ["Observation.contained[1].id"]


def test_an_entry_of_a_bundle_is_checked_at_its_own_path(validator):
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"resource": OBSERVATION},
            {"resource": changed(OBSERVATION, ["status"], GONE)},
            {"resource": {"resourceType": "Nothing"}},
            {
                "resource": {
                    "resourceType": "Bundle",
                    "type": "batch",
                    "entry": [{"resource": PATIENT}],
                }
            },
        ],
    }

    assert [(issue.code, issue.expression) for issue in validator.check(bundle)] == [
        ("required", "Bundle.entry[1].resource.status"),
        ("structure", "Bundle.entry[2].resource"),
        ("invariant", "Bundle.entry[3].resource"),
    ]


@pytest.mark.parametrize(
    ("bundle", "key"),
    [
        ({"type": "collection", "total": 1}, "bdl-1"),
        ({"type": "collection", "entry": [{"resource": PATIENT, "search": {}}]}, "bdl-2"),
        ({"type": "transaction", "entry": [{"resource": PATIENT}]}, "bdl-3"),
        ({"type": "batch-response", "entry": [{"resource": PATIENT}]}, "bdl-4"),
        ({"type": "collection", "entry": [{"fullUrl": "u:x"}]}, "bdl-5"),
        (
            {"type": "collection", "entry": [{"fullUrl": "u:x", "resource": PATIENT}] * 2},
            "bdl-7",
        ),
        ({"type": "document", "entry": [{"resource": PATIENT}]}, "bdl-9"),
        ({"type": "document", "entry": [{"resource": PATIENT}]}, "bdl-11"),
        ({"type": "message", "entry": [{"resource": PATIENT}]}, "bdl-12"),
    ],
)
def test_a_bundle_keeps_its_invariants(validator, bundle, key):
    issues = validator.check({"resourceType": "Bundle", **bundle})

    assert any(f"({key})" in issue.diagnostics for issue in issues)


def test_a_required_binding_of_a_concept_is_checked(validator):
    condition = {
        "resourceType": "Condition",
        "subject": {"reference": "Patient/1"},
        "clinicalStatus": {"coding": [{"system": "http://other", "code": "active"}]},
    }

    found = [(issue.code, issue.expression) for issue in validator.check(condition)]

    assert found == [("code-invalid", "Condition.clinicalStatus")]


def test_what_nests_too_deep_is_refused_and_not_followed(validator):
    extension = {"url": "u:x", "valueCode": "y"}
    for _ in range(400):
        extension = {"url": "u:x", "extension": [extension]}

    (issue,) = validator.check({"resourceType": "Patient", "extension": [extension]})

    assert "nested" in issue.diagnostics


def test_a_flood_of_faults_is_cut_short(validator):
    assert len(validator.check({"resourceType": "Patient", "name": [None] * 50_000})) == 500


@pytest.mark.parametrize(
    ("resource_type", "name", "item"),
    [
        ("Patient", "name", {"family": "x"}),
        ("Patient", "extension", {"url": "http://x", "valueString": "x"}),
        ("Patient", "contained", {"resourceType": "Patient", "id": "x"}),
        ("Patient", "contact", None),
        ("Bundle", "entry", {"resource": {"resourceType": "Patient"}}),
    ],
)
def test_a_list_of_a_hundred_thousand_is_refused_without_a_look_at_its_items(
    validator, resource_type, name, item
):
    resource = {"resourceType": resource_type, name: [item] * 100_000}
    if resource_type == "Bundle":
        resource["type"] = "collection"
    (issue,) = validator.check(resource)
    assert (issue.code, issue.expression) == ("too-long", f"{resource_type}.{name}")
