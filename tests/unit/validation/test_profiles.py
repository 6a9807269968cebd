"""What StructureDefinitions may say, and how each of it is read and checked."""

import io
import json
import tarfile

import pytest

from fhir_server.core.validation.profile import ProfileFault
from fhir_server.core.validation.profile_files import unpack
from fhir_server.core.validation.profiled import check_claims, check_thoroughly
from fhir_server.definitions import load, read_definitions

BASE = "http://hl7.org/fhir/StructureDefinition/"
URL = "https://pmp.example/fhir/StructureDefinition/"
REQUIRED = ("error", "required")


@pytest.fixture(scope="module")
def shipped():
    return load().profiles


def definition(*elements, name="p", type_name="Observation", base=None, **more):
    return {
        "resourceType": "StructureDefinition",
        "url": URL + name,
        "type": type_name,
        "derivation": "constraint",
        "baseDefinition": base or BASE + type_name,
        "differential": {"element": list(elements)},
        **more,
    }


def observation(**more):
    return {"resourceType": "Observation", "meta": {"profile": [URL + "p"]}, **more}


def told(profiles, resource):
    issues = check_claims(lambda _: profiles, resource, "warn")
    return [(i.severity, i.code, i.expression) for i in issues]


def rule(expression, severity="error"):
    return [{"key": "t-1", "severity": severity, "human": "a rule", "expression": expression}]


def test_an_element_without_an_id_belongs_to_the_slice_that_came_last(shipped):
    elements = (
        {
            "path": "Observation.component",
            "slicing": {"discriminator": [{"type": "value", "path": "code.text"}], "rules": "open"},
        },
        {"path": "Observation.component", "sliceName": "a", "min": 1},
        {"path": "Observation.component.code", "min": 1},
        {"path": "Observation.component.code.text", "min": 1, "fixedString": "a"},
        {"path": "Observation.component.interpretation", "min": 1},
    )
    profiles = shipped.having([definition(*elements)])
    other, own = {"code": {"text": "b"}}, {"code": {"text": "a"}}
    assert told(profiles, observation(component=[other])) == [(*REQUIRED, "Observation.component")]
    assert told(profiles, observation(component=[other, own])) == [
        (*REQUIRED, "Observation.component[1].interpretation")
    ]


def test_a_profile_of_a_profile_keeps_what_that_one_demands(shipped):
    parent = definition({"path": "Observation.method", "min": 1}, name="parent")
    child = definition({"path": "Observation.device", "min": 1}, base=URL + "parent")
    profiles = shipped.having([child, parent])
    assert told(profiles, observation()) == [
        (*REQUIRED, "Observation.method"),
        (*REQUIRED, "Observation.device"),
    ]


def test_a_profile_that_is_derived_from_itself_is_told_as_unusable(shipped):
    one = definition(name="p", base=URL + "q")
    two = definition(name="q", base=URL + "p")
    (issue,) = check_claims(lambda _: shipped.having([one, two]), observation(), "warn")
    assert issue.severity == "warning"
    assert "cannot be used" in issue.diagnostics


def test_the_short_form_of_a_choice_is_a_slice_of_it(shipped):
    element = {"path": "Observation.valueQuantity.code", "min": 1}
    profiles = shipped.having([definition({"path": "Observation.valueQuantity"}, element)])
    assert told(profiles, observation(valueString="x")) == []
    assert told(profiles, observation(valueQuantity={"value": 1})) == [
        (*REQUIRED, "Observation.value.code")
    ]


def test_a_version_in_a_claim_asks_for_that_version(shipped):
    profiles = shipped.having([definition({"path": "Observation.method", "min": 1}, version="2")])
    one, two = (observation(meta={"profile": [f"{URL}p|{v}"]}) for v in "12")
    assert [t[1] for t in told(profiles, one)] == ["not-found"]
    assert [t[1] for t in told(profiles, two)] == ["required"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("method.exists()", [("error", "invariant", "Observation")]),
        ("method.exists() or note.empty()", []),
        ("status = 'final' implies method.exists()", [("error", "invariant", "Observation")]),
        ("code.text.length() > 3", [("error", "invariant", "Observation")]),
        ("code.text.matches('^b')", [("error", "invariant", "Observation")]),
        ("note.text.length() > 3", []),
        ("subject.resolve().exists()", [("information", "informational", "Observation")]),
        ("code.conformsTo('x')", [("information", "informational", "Observation")]),
        ("(", [("information", "informational", "Observation")]),
    ],
)
def test_an_invariant_is_kept_broken_or_said_to_be_unknown(shipped, expression, expected):
    profiles = shipped.having([definition({"path": "Observation", "constraint": rule(expression)})])
    resource = observation(status="final", code={"text": "a"}, subject={"reference": "Patient/1"})
    assert told(profiles, resource) == expected


@pytest.mark.timeout(20)
def test_a_hostile_pattern_of_a_profile_holds_nobody_up(shipped):
    constraint = rule("matches('(a+)+$')")
    profiles = shipped.having(
        [definition({"path": "Observation.code.text", "constraint": constraint})]
    )
    good, bad = (observation(code={"text": "a" * 10_000 + end}) for end in ("", "!"))
    assert told(profiles, good) == []
    assert told(profiles, bad) == [("error", "invariant", "Observation.code.text")]
    longer = observation(code={"text": "a" * 30_000})
    assert told(profiles, longer) == [("information", "informational", "Observation.code.text")]


def test_an_invariant_of_severity_warning_is_a_warning(shipped):
    element = {"path": "Observation", "constraint": rule("method.exists()", "warning")}
    profiles = shipped.having([definition(element)])
    assert told(profiles, observation()) == [("warning", "invariant", "Observation")]


def test_a_primitive_that_only_has_extensions_exists(shipped):
    element = {"path": "Observation", "constraint": rule("issued.exists()")}
    profiles = shipped.having([definition(element, {"path": "Observation.issued", "min": 1})])
    resource = observation(_issued={"extension": [{"url": "urn:x", "valueCode": "unknown"}]})
    assert told(profiles, resource) == []


def test_a_rule_of_a_value_says_nothing_where_there_is_none(shipped):
    constraint = rule("($this as dateTime).toString().length() >= 8")
    profiles = shipped.having(
        [definition({"path": "Observation.effective[x]", "constraint": constraint})]
    )
    absent = {"extension": [{"url": "urn:x", "valueCode": "unknown"}]}
    assert told(profiles, observation(_effectiveDateTime=absent)) == []
    assert [t[1] for t in told(profiles, observation(effectiveDateTime="2026"))] == ["invariant"]


def test_extensible_bindings_warn_and_preferred_ones_say_nothing(shipped):
    url = "http://hl7.org/fhir/ValueSet/data-absent-reason"
    for strength, expected in (("extensible", ["warning"]), ("preferred", []), ("example", [])):
        binding = {"strength": strength, "valueSet": url}
        profiles = shipped.having([definition({"path": "Observation.method", "binding": binding})])
        resource = observation(method={"coding": [{"system": "urn:x", "code": "y"}]})
        assert [t[0] for t in told(profiles, resource)] == expected
        assert told(profiles, observation(method={"text": "y"})) == []


def test_slices_by_profile_and_by_an_extension_are_told_apart(shipped):
    part = definition({"path": "Quantity.unit", "min": 1}, name="unit", type_name="Quantity")
    elements = (
        {
            "path": "Observation.component",
            "slicing": {"discriminator": [{"type": "profile", "path": "value"}], "rules": "open"},
        },
        {"path": "Observation.component", "sliceName": "unit", "max": "1"},
        {
            "path": "Observation.component.value[x]",
            "type": [{"code": "Quantity", "profile": [URL + "unit"]}],
        },
    )
    profiles = shipped.having([definition(*elements), part])
    own, other = ({"valueQuantity": v} for v in ({"value": 1, "unit": "u"}, {"value": 1}))
    assert told(profiles, observation(component=[own, other])) == []
    assert told(profiles, observation(component=[own, own])) == [
        ("error", "structure", "Observation.component")
    ]


def test_a_slice_that_nothing_tells_apart_is_said_to_be_unchecked(shipped):
    elements = (
        {
            "path": "Observation.note",
            "slicing": {"discriminator": [{"type": "value", "path": "text"}], "rules": "closed"},
        },
        {"path": "Observation.note", "sliceName": "a", "min": 1},
    )
    profiles = shipped.having([definition(*elements)])
    assert told(profiles, observation(note=[{"text": "x"}])) == [
        ("information", "informational", "Observation.note")
    ]


def test_contained_resources_and_entries_are_held_to_their_own_claims(shipped):
    profiles = shipped.having([definition({"path": "Observation.method", "min": 1})])
    holder = {"resourceType": "Basic", "contained": [observation(id="a")]}
    assert told(profiles, holder) == [(*REQUIRED, "Basic.contained[0].method")]
    bundle = {"resourceType": "Bundle", "entry": [{"resource": holder}]}
    assert told(profiles, bundle) == [(*REQUIRED, "Bundle.entry[0].resource.contained[0].method")]


def test_what_must_be_supported_and_is_not_there_is_told_only_to_those_who_ask(shipped):
    profiles = shipped.having([definition({"path": "Observation.method", "mustSupport": True})])
    assert told(profiles, observation()) == []
    issues = check_thoroughly(profiles, observation(), [URL + "p"], "warn")
    assert [(i.severity, i.expression) for i in issues] == [("information", "Observation.method")]


def test_a_claim_to_a_profile_of_another_type_is_an_error(shipped):
    profiles = shipped.having([definition(type_name="Patient")])
    assert told(profiles, observation()) == [("error", "structure", "Observation")]


@pytest.mark.parametrize(
    "broken",
    [
        definition(type_name="Nonsense"),
        definition({"path": "Patient.name"}),
        definition({"path": "Observation.colour"}),
        definition({"path": "Observation.code", "min": "x"}),
        definition({"path": "Observation.code", "type": ["CodeableConcept"]}),
        definition({"nothing": 1}),
        definition(base=URL + "nobody"),
        definition(baseDefinition=None),
    ],
)
def test_a_profile_that_cannot_be_used_says_so(shipped, broken):
    with pytest.raises(ProfileFault):
        shipped.read(broken)


def test_a_broken_discriminator_makes_a_profile_unusable_and_no_write_fail(shipped):
    slicing = {"discriminator": [{"type": "value", "path": 1}]}
    elements = (
        {"path": "Observation.note", "slicing": slicing},
        {"path": "Observation.note", "sliceName": "a", "min": 1},
    )
    profiles = shipped.having([definition(*elements)])
    assert [t[:2] for t in told(profiles, observation())] == [("warning", "not-found")]


@pytest.mark.parametrize("value", [None, 1, "x", [], [None], {}, [{}], {"coding": 1}, [[]]])
def test_no_shape_of_a_resource_makes_a_check_fail(shipped, value):
    claim = {"profile": [BASE + "bp"]}
    for name in ("category", "code", "subject", "effectiveDateTime", "component", "valueQuantity"):
        check_claims(
            lambda _: shipped, {"resourceType": "Observation", "meta": claim, name: value}, "warn"
        )


def package(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, resource in files.items():
            body = json.dumps(resource).encode()
            member = tarfile.TarInfo(f"package/{name.replace('_', '-')}.json")
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return packed.getvalue()


def test_a_package_in_a_profile_folder_is_read(tmp_path):
    own = definition({"path": "Observation.method", "min": 1})
    (tmp_path / "our.tgz").write_bytes(
        package(StructureDefinition_p=own, package={"name": "our"}, Patient_x={"a": 1})
    )
    assert read_definitions([tmp_path]) == [own]
    assert told(load(profiles=[tmp_path]).profiles, observation()) == [
        (*REQUIRED, "Observation.method")
    ]


def test_what_is_no_package_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no FHIR package"):
        list(unpack(b"nonsense"))
    (tmp_path / "our.tgz").write_bytes(package(StructureDefinition_p={"resourceType": "Patient"}))
    with pytest.raises(ValueError, match="url"):
        load(profiles=[tmp_path])


def test_a_rule_that_traces_prints_nothing(shipped, capsys):
    """Some of R4's trace; what a resource holds is nothing for a log."""
    traced = definition({"id": "Observation", "path": "Observation"})
    check_thoroughly(shipped, traced, (), "refuse")
    assert capsys.readouterr().out == ""
