"""The quick look at a profile says yes only where the checks would find nothing at all."""

import copy
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.validate import blood_pressure
from fhir_server.core import resource_json
from fhir_server.core.validation.profile_run import Run
from fhir_server.core.validation.profiled import check_claims, check_thoroughly
from fhir_server.definitions import load
from tests.unit.validation.test_profile_faults import DATA, change

ARCHIVE = Path(__file__).parents[2] / "r4_examples" / "examples.tar.xz"
BASE = "http://hl7.org/fhir/StructureDefinition/"
URL = "https://pmp.example/fhir/StructureDefinition/"
DEFINITIONS = load()
PROFILES = DEFINITIONS.profiles.having(DATA["profiles"])
SHIPPED = sorted(url for url in DEFINITIONS.profiles.urls if "|" not in url)
GOOD = [*DATA["good"].values(), blood_pressure()]
TEXTS = ["x", "2020", "8480-6", "vital-signs", "http://loinc.org", "Patient/1", "#a", "mm[Hg]"]
ABSENT = {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}


def faulty():
    for base, *how, _ in DATA["faults"]:
        resource = copy.deepcopy(DATA["good"][base])
        change(resource, *how)
        yield resource


def same_by_both(resource, profiles=PROFILES):
    """What the checks say, which the quick look before them must not change."""
    issues = check_claims(lambda _: profiles, resource, "warn")
    is_sound = not DEFINITIONS.validator.check(resource)
    assert check_claims(lambda _: profiles, resource, "warn", is_sound=is_sound) == issues
    return issues


def places(value, path=()):
    yield path
    if isinstance(value, dict | list):
        steps = value.items() if isinstance(value, dict) else enumerate(value)
        for step, part in steps:
            yield from places(part, (*path, step))


def at(resource, path):
    for step in path:
        resource = resource[step]
    return resource


def mutate(resource, draw):
    """Take away, double, move, overwrite, or leave only the extensions of a primitive."""
    found = [p for p in places(resource) if p and p[0] not in ("resourceType", "meta")]
    *above, last = path = draw(st.sampled_from(found))
    holder, value = at(resource, above), at(resource, path)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        del holder[last]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(draw(st.integers(0, len(holder))), copy.deepcopy(value))
    elif kind == 2:
        holder[last] = copy.deepcopy(at(resource, draw(st.sampled_from(found))))
    elif kind == 3 and isinstance(holder, dict) and isinstance(value, str) and last[0] != "_":
        holder["_" + last] = copy.deepcopy(ABSENT)
        if draw(st.booleans()):
            del holder[last]
    elif isinstance(value, str):
        holder[last] = draw(st.sampled_from(TEXTS))


@st.composite
def mutated(draw, seeds):
    resource = copy.deepcopy(seeds[draw(st.integers(0, len(seeds) - 1))])
    for _ in range(draw(st.integers(1, 3))):
        mutate(resource, draw)
    return resource


@settings(max_examples=400, deadline=None)
@given(mutated([*GOOD, *faulty()]))
def test_a_quick_look_changes_no_answer(resource):
    same_by_both(resource)


def test_a_quick_look_changes_no_answer_about_what_is_wrong():
    for resource in faulty():
        assert any(i.severity == "error" for i in same_by_both(resource)) or (
            DEFINITIONS.validator.check(resource)
        )


def test_a_quick_look_changes_no_answer_about_the_examples_of_r4():
    with tarfile.open(ARCHIVE) as tar:
        resources = [resource_json.parse_resource(tar.extractfile(m).read()) for m in tar]
    observations = [r for r in resources if r["resourceType"] == "Observation"]
    told = [
        same_by_both({**observation, "meta": {"profile": [url]}})
        for observation in observations
        for url in SHIPPED
        if url.startswith(BASE)
    ]
    assert [] in map(list, told)
    assert len(told) > 500


def test_what_conforms_is_seen_at_a_quick_look():
    conforming = [r for r in GOOD if not same_by_both(r) and r["meta"].get("profile")]
    assert len(conforming) >= 3
    for resource in conforming:
        for url in resource["meta"]["profile"]:
            assert PROFILES.accepts(url, resource, Run(resource))


def profile(*elements, type_name="Observation"):
    return {
        "resourceType": "StructureDefinition",
        "url": URL + "p",
        "type": type_name,
        "derivation": "constraint",
        "baseDefinition": BASE + type_name,
        "differential": {"element": list(elements)},
    }


def rule(expression):
    return [{"key": "t-1", "severity": "error", "human": "a rule", "expression": expression}]


def observation(**more):
    code = {"coding": [{"system": "urn:a", "code": "b"}], "text": "b"}
    base = {"resourceType": "Observation", "meta": {"profile": [URL + "p"]}, "status": "final"}
    return {**base, "code": code, **more}


SLICED = {
    "path": "Observation.component",
    "slicing": {"discriminator": [{"type": "value", "path": "code.text"}], "rules": "closed"},
}
A, B = ({"code": {"text": name}, "valueInteger": 1} for name in "ab")
SLICE_A = (
    {"path": "Observation.component", "sliceName": "a", "min": 1, "max": "1"},
    {"path": "Observation.component.code.text", "fixedString": "a"},
)


@pytest.mark.parametrize(
    ("elements", "more", "is_accepted"),
    [
        ([{"path": "Observation.note", "min": 2}], {"note": [{"text": "x"}] * 2}, True),
        ([{"path": "Observation.note", "min": 2}], {"note": [{"text": "x"}]}, False),
        ([{"path": "Observation.note", "max": "0"}], {}, True),
        ([{"path": "Observation.note", "max": "0"}], {"note": [{"text": "x"}]}, False),
        ([{"path": "Observation.value[x]", "min": 1}], {"valueInteger": 1}, True),
        ([{"path": "Observation.value[x]", "min": 1}], {}, False),
        ([{"path": "Observation.value[x]", "type": [{"code": "string"}]}], {}, True),
        (
            [{"path": "Observation.value[x]", "type": [{"code": "string"}]}],
            {"valueInteger": 1},
            False,
        ),
        ([{"path": "Observation.value[x]", "fixedInteger": 1}], {"valueInteger": 1}, True),
        ([{"path": "Observation.value[x]", "fixedInteger": 1}], {"valueInteger": 2}, False),
        ([{"path": "Observation.value[x]", "patternInteger": 1}], {"valueInteger": 1}, True),
        ([{"path": "Observation.value[x]", "maxValueInteger": 1}], {"valueInteger": 1}, True),
        ([{"path": "Observation.value[x]", "maxValueInteger": 1}], {"valueInteger": 2}, False),
        (
            [{"path": "Observation.code", "patternCodeableConcept": {"coding": [{"code": "b"}]}}],
            {},
            True,
        ),
        (
            [{"path": "Observation.code", "patternCodeableConcept": {"coding": [{"code": "c"}]}}],
            {},
            False,
        ),
        ([SLICED, *SLICE_A], {"component": [A]}, True),
        ([SLICED, *SLICE_A], {"component": [A, A]}, False),
        ([SLICED, *SLICE_A], {"component": [A, B]}, False),
        ([SLICED, *SLICE_A], {}, False),
        ([{"path": "Observation", "constraint": rule("code.text = 'b'")}], {}, True),
        ([{"path": "Observation", "constraint": rule("code.text = 'c'")}], {}, False),
        ([{"path": "Observation", "constraint": rule("code.text.length() < 2")}], {}, True),
        ([{"path": "Observation", "constraint": rule("code.text.length() > 1")}], {}, False),
        ([{"path": "Observation", "constraint": rule("code.coding.exists()")}], {}, True),
        ([{"path": "Observation", "constraint": rule("code.matches('x')")}], {}, False),
        ([{"path": "Observation", "constraint": rule("issued.empty()")}], {}, True),
        (
            [{"path": "Observation", "constraint": rule("issued.empty()")}],
            {"_issued": ABSENT},
            False,
        ),
        (
            [{"path": "Observation", "constraint": rule("issued.exists()")}],
            {"_issued": ABSENT},
            True,
        ),
        (
            [{"path": "Observation.issued", "fixedInstant": "2026-01-01T00:00:00Z"}],
            {"_issued": ABSENT},
            False,
        ),
        (
            [{"path": "Observation.component.code.text", "patternString": "a"}],
            {"component": [{"code": {"_text": ABSENT}, "valueInteger": 1}]},
            False,
        ),
        ([{"path": "Observation", "constraint": rule("note.empty() and code.exists()")}], {}, True),
        ([{"path": "Observation", "constraint": rule("note.exists() or false")}], {}, False),
        ([{"path": "Observation", "constraint": rule("note.exists() implies false")}], {}, True),
        (
            [{"path": "Observation", "constraint": rule("status = 'final' implies note.exists()")}],
            {},
            False,
        ),
        ([{"path": "Observation", "constraint": rule("(status = 'final').not()")}], {}, False),
        (
            [{"path": "Observation.subject", "type": [{"code": "Reference", "targetProfile": [
                BASE + "Patient"]}]}],
            {"subject": {"reference": "Patient/1"}},
            True,
        ),
        (
            [{"path": "Observation.subject", "type": [{"code": "Reference", "targetProfile": [
                BASE + "Patient"]}]}],
            {"subject": {"reference": "Group/1"}},
            False,
        ),
    ],
)  # fmt: skip
def test_what_each_demand_accepts(elements, more, is_accepted):
    profiles = DEFINITIONS.profiles.having([profile(*elements)])
    resource = observation(**more)
    assert DEFINITIONS.validator.check(resource) == ()
    assert (same_by_both(resource, profiles) == ()) is is_accepted
    assert profiles.accepts(URL + "p", resource, Run(resource)) is is_accepted


@pytest.mark.parametrize(
    "text", ["'", '"', "\\", "\n", "{}", "{0!r}", "' or True or '", '"""', "\\'", "%s", "é\u2028"]
)
def test_what_a_profile_says_is_never_code(text):
    told = [
        {"path": "Observation.code.text", "fixedString": text},
        {"path": "Observation.method", "patternCodeableConcept": {text: [{text: text}]}},
        SLICED,
        {"path": "Observation.component", "sliceName": "a"},
        {"path": "Observation.component.code.text", "fixedString": text},
    ]
    profiles = DEFINITIONS.profiles.having([profile(*told)])
    resource = observation(component=[{"code": {"text": text}, "valueInteger": 1}])
    resource["code"]["text"] = text
    assert profiles.accepts(URL + "p", resource, Run(resource))
    resource["code"]["text"] = "other"
    assert not profiles.accepts(URL + "p", resource, Run(resource))


def test_claims_to_what_is_not_here_leave_nothing_behind():
    profiles = DEFINITIONS.profiles.having([])
    assert profiles.accepts(BASE + "Observation|1", observation(), Run(observation()))
    assert not profiles.accepts(BASE + "Patient|1", observation(), Run(observation()))
    before = len(profiles._accepting), len(profiles._compiled)
    for n in range(50):
        for url in (f"urn:x:{n}", f"{BASE}Observation|{n}"):
            profiles.accepts(url, observation(), Run(observation()))
            check_thoroughly(profiles, observation(), [url], "warn")
    assert (len(profiles._accepting), len(profiles._compiled)) == (before[0], before[1] + 1)


def test_a_profile_that_asks_for_what_no_value_can_be_is_left_to_the_checks():
    broken = {"path": "Observation.code", "patternCodeableConcept": {"coding": {"code": "b"}}}
    profiles = DEFINITIONS.profiles.having([profile(broken)])
    assert not profiles.accepts(URL + "p", observation(), Run(observation()))
    assert [i.code for i in same_by_both(observation(), profiles)] == ["value"]


def test_a_profile_that_is_too_big_to_be_written_out_is_left_to_the_checks():
    slices = [{"path": "Observation.note", "sliceName": f"n{n}", "max": "1"} for n in range(1_500)]
    fixed = [{"path": "Observation.note.text", "fixedString": f"n{n}"} for n in range(1_500)]
    told = [part for pair in zip(slices, fixed, strict=True) for part in pair]
    slicing = {"discriminator": [{"type": "value", "path": "text"}], "rules": "open"}
    profiles = DEFINITIONS.profiles.having(
        [profile({"path": "Observation.note", "slicing": slicing}, *told)]
    )
    resource = observation(note=[{"text": "n1"}])
    assert not profiles.accepts(URL + "p", resource, Run(resource))
    assert same_by_both(resource, profiles) == ()


@pytest.mark.parametrize("odd", [{}, [], {"a": 1}, 1, None, True])
def test_a_system_or_type_that_is_no_text_makes_no_check_fail(odd):
    slicing = {"discriminator": [{"type": "type", "path": "resolve()"}], "rules": "open"}
    told = (
        {"path": "Observation.hasMember", "slicing": slicing},
        {"path": "Observation.hasMember", "sliceName": "a", "type": [
            {"code": "Reference", "targetProfile": [BASE + "Observation"]}]},
    )  # fmt: skip
    profiles = PROFILES.having([profile(*told)])
    coding = {"coding": [{"system": odd, "code": odd}, {"system": odd, "code": "b"}]}
    for url in (BASE + "bp", URL + "p"):
        resource = observation(code=coding, hasMember=[{"type": odd}], contained=[
            {"resourceType": odd}])  # fmt: skip
        resource["meta"] = {"profile": [url]}
        same_by_both(resource, profiles)
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": odd}}]}
    same_by_both(bundle)
