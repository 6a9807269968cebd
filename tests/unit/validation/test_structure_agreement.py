"""The quick schema accepts only what the careful explanation finds no fault in."""

import copy
from decimal import Decimal
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core.validation import base_invariants, schema
from fhir_server.core.validation.explain import explain

PLAIN = [
    "observation-simple",
    "observation-panel",
    "device",
    "patient",
    "care-plan",
    "goal",
    "task",
]
PLAIN += ["medication-request", "condition", "questionnaire", "device-use-statement"]
assert all((Path(__file__).parent / "examples" / f"{name}.json").is_file() for name in PLAIN)

ODD = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        -1,
        2**31,
        Decimal("1.0"),
        Decimal("-0.5"),
        "",
        " ",
        "x",
        "a b",
        "#",
        "#cuff",
        "Patient/1",
        "Group/1",
        "2024",
        "2024-02-30",
        "2024-06-31T00:00:00Z",
        "2024-05-01T00:00:00+03:00",
        "23:59:60",
        [],
        [None],
        ["x"],
        [{}],
        {},
        {"id": "x"},
        {"extension": [{"url": "u:x"}]},
        {"extension": [{"url": "u:x", "valueString": "y"}]},
        {"reference": "Patient/1"},
        {"value": 1, "code": "mg"},
        {"start": "2025", "end": "2024"},
        {"start": "2024", "end": "2025"},
        {"coding": [{"code": "x"}]},
        {"text": "x"},
        [{"text": "x"}],
    ]
)
NAMES = [
    "id",
    "extension",
    "value",
    "valueString",
    "valueQuantity",
    "valuePeriod",
    "effectivePeriod",
    "dataAbsentReason",
    "comparator",
    "code",
    "system",
    "reference",
    "type",
    "identifier",
    "assigner",
    "period",
    "start",
    "end",
    "low",
    "high",
    "detail",
    "detailString",
    "contentType",
    "data",
    "offset",
    "when",
    "duration",
    "text",
    "item",
    "contained",
    "modifierExtension",
    "_value",
    "_status",
    "status",
]


def places(value, path=()):
    if isinstance(value, dict):
        for name, item in value.items():
            yield (*path, name)
            yield from places(item, (*path, name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield (*path, index)
            yield from places(item, (*path, index))


def at(value, path):
    for step in path:
        value = value[step]
    return value


@pytest.fixture(scope="session")
def compiled(rules):
    invariants = base_invariants.build(rules)
    found = {}

    def schema_of(resource_type):
        if resource_type not in found:
            found[resource_type] = jsonschema_rs.Draft4Validator(
                schema.build(rules, invariants, resource_type),
                pattern_options=jsonschema_rs.RegexOptions(),
            )
        return found[resource_type]

    return schema_of, invariants


@settings(
    max_examples=800,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), name=st.sampled_from(PLAIN))
def test_what_the_schema_accepts_has_no_fault(rules, compiled, examples, data, name):
    schema_of, invariants = compiled
    resource = copy.deepcopy(examples[name])
    for _ in range(data.draw(st.integers(1, 3))):
        found = sorted((p for p in places(resource) if p != ("resourceType",)), key=repr)
        path = data.draw(st.sampled_from(found))
        parent = at(resource, path[:-1])
        match data.draw(st.sampled_from(["replace", "remove", "add", "repeat", "wrap"])):
            case "replace":
                parent[path[-1]] = copy.deepcopy(data.draw(ODD))
            case "remove":
                del parent[path[-1]]
            case "add" if isinstance(parent, dict) and len(path) > 0:
                parent[data.draw(st.sampled_from(NAMES))] = copy.deepcopy(data.draw(ODD))
            case "repeat" if isinstance(parent, list):
                parent.append(copy.deepcopy(parent[path[-1]]))
            case "wrap":
                parent[path[-1]] = [parent[path[-1]]]
    resource_type = resource["resourceType"]

    is_accepted = schema_of(resource_type).is_valid(resource)

    issues, _ = explain(rules, invariants, resource)
    open_periods = schema.unordered_periods(rules, resource_type)
    others = [
        issue
        for issue in issues
        if "per-1" not in issue.diagnostics
        or (issue.expression or "").count(".") > 1
        or not open_periods
    ]
    if is_accepted:
        assert others == []


@pytest.mark.parametrize("name", ["observation-simple", "device", "care-plan", "task", "condition"])
def test_ordinary_resources_need_no_second_look(rules, compiled, examples, name):
    schema_of, _ = compiled

    assert schema_of(examples[name]["resourceType"]).is_valid(examples[name])


def test_no_definition_reaches_itself(rules):
    invariants = base_invariants.build(rules)
    for resource_type in rules.resource_types:
        built = schema.build(rules, invariants, resource_type)
        graph = {name: set(pointers(d)) for name, d in built["definitions"].items()}
        while leaves := {name for name, to in graph.items() if not to}:
            graph = {n: to - leaves for n, to in graph.items() if n not in leaves}
        assert graph == {}, resource_type


def pointers(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].removeprefix("#/definitions/")
        for value in node.values():
            yield from pointers(value)
    elif isinstance(node, list):
        for value in node:
            yield from pointers(value)
