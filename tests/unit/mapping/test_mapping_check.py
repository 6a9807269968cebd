"""`check` finds every fault of a file, at its line, and faults of meaning too."""

import re
import textwrap
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

import pytest

from fhir_server.core.mapping.check import check
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.language import Language
from fhir_server.r4_files import shipped_folder

GOOD = """\
mapping: acme
records:
  - each: list
    time: {at: t, format: iso}
    readings:
      - kind: blood-pressure
        loinc: 85354-9
        components:
          systolic: {at: s, unit: "mm[Hg]", loinc: 8480-6, mdc: 150021}
          diastolic: {at: d, unit: "mm[Hg]", loinc: 8462-4, mdc: 150022}
      - kind: glucose
        loinc: [14743-9, 41653-7]
        value: {at: g, unit: {at: $.u, is: {0: mg/dL, 1: mmol/L}}}
"""
EXAMPLE = {"empty": ({"list": []}, [{"ignored": "no-readings"}])}

Faults = Callable[[str], list[tuple[int, str]]]


@pytest.fixture
def faults(language: Language, files_of: Callable[..., MappingFiles]) -> Faults:
    def find(text: str, **options: Any) -> list[tuple[int, str]]:
        files = files_of(text, **({"examples": EXAMPLE} | options))
        return [(f.line, f.reason) for f in check(files, language)]

    return find


def test_a_mapping_without_fault_has_none(faults: Faults) -> None:
    assert faults(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        # The well-known public sample: diastolic pressure coded as heart rate.
        ("loinc: 8462-4", "loinc: 8867-4", 10, "LOINC 8867-4 is heart-rate, not"),
        ("loinc: 8480-6", "loinc: 8462-4", 9, "is blood-pressure.diastolic, not"),
        ("loinc: 85354-9", "loinc: 8867-4", 7, "LOINC 8867-4 is heart-rate, not blood-pressure"),
        ("mdc: 150022", "mdc: 150021", 10, "MDC 150021 is blood-pressure.systolic"),
        ("mdc: 150022", "mdc: 1", 10, "MDC 1 is not in measurements.json"),
        ("loinc: 8480-6", "loinc: 1234-5", 9, "LOINC 1234-5 is not in measurements.json"),
        ("[14743-9, 41653-7]", "14743-9", 12, "in mg/dL the code is 41653-7"),
        ("{at: $.u, is: {0: mg/dL, 1: mmol/L}}", "mg/dL", 12, "14743-9 is in mmol/L, the value in"),
        ('unit: "mm[Hg]", loinc: 8480-6', "unit: kPa, loinc: 8480-6", 9, "stored in mm[Hg], not"),
        ('unit: "mm[Hg]", loinc: 8480-6', "unit: mmHg, loinc: 8480-6", 9, "`mmHg` is no UCUM unit"),
        ("at: s,", "at: values.diastolic,", 9, "read from a field called `diastolic`"),
        ("kind: glucose", "kind: heart-rate", 12, "LOINC 14743-9 is glucose, not heart-rate"),
        ("kind: glucose", "kind: sugar", 11, "`sugar` is not in measurements.json"),
        ("          systolic:", "          sistolic:", 9, "has no component `sistolic`"),
        ("loinc: 85354-9", "category: laboratory", 7, "is of the category vital-signs"),
        ("loinc: 85354-9", "flags: [{name: hungry, when: a}]", 7, "there is no flag `hungry`"),
        ("each: list", "each: list[", 3, "not JMESPath"),
        ("at: $.u", "at: $.u ==", 13, "not JMESPath"),
        ("at: g,", "at: foo(g),", 13, "there is no function foo()"),
        ("format: iso", "format: sometimes", 4, "must be one of: iso"),
        ("format: iso", "format: iso, zone: Moon", 4, "there is no time zone Moon"),
        ("format: iso", 'format: "%Y-%Q-%d"', 4, "unknown in a pattern: %Q"),
        ("time: {at: t,", "time: {at: t, atl: t,", 4, "`atl` means nothing here"),
        ("at: d, ", "", 10, "missing: `at`"),
        ("mapping: acme", "mapping: other", 1, "its folder `acme`"),
        ("value: {at: g,", "valu: {at: g,", 13, "`valu` means nothing here"),
        ("each: list", "each: list\n    each: other", 4, "`each` stands here twice"),
        ("each: list", "each: [list", 4, "not YAML"),
        ("at: g,", "at: g, store: kPa,", 13, "no conversion from mg/dL to kPa"),
        ("loinc: 85354-9", "value: {at: s, unit: '%'}", 7, "is a panel"),
        (
            "loinc: 85354-9",
            'profile: ["http://hl7.org/fhir/StructureDefinition/heartrate"]',
            7,
            "this profile is for heart-rate, not for blood-pressure",
        ),
    ],
)
def test_a_fault_is_named_at_its_line(
    faults: Faults, old: str, new: str, line: int, says: str
) -> None:
    assert GOOD.count(old) == 1
    found = faults(GOOD.replace(old, new))
    assert any(at == line and says in reason for at, reason in found), found


def test_every_fault_is_named_at_once(faults: Faults) -> None:
    text = (
        GOOD.replace("8480-6", "8867-4").replace("each: list", "each: a[").replace("at: g", "x: g")
    )
    found = faults(text)
    assert {line for line, _ in found} >= {3, 9, 13}


def test_a_code_that_several_devices_have_must_be_chosen(faults: Faults) -> None:
    text = GOOD + "      - kind: heart-rate\n        value: {at: p, unit: /min}\n"
    ((line, reason),) = faults(text)
    assert line == 14
    assert "149546" in reason
    assert faults(text + "        mdc: none\n") == []


def test_a_json_mapping_is_read_as_well(faults: Faults) -> None:
    text = """{
\t"mapping": "acme",
\t"records": [{"each": "list", "time": {"at": "t", "format": "iso"},
\t\t"readings": [{"kind": "glucose", "value": {"at": "g", "unit": "kg"}}]}]
}"""
    ((line, reason),) = faults(text)
    assert line == 4
    assert "glucose is stored in" in reason


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (None, "missing: the JSON Schema"),
        ('{"type": "objekt"}', "not JSON Schema"),
        ('{"type": ', "not YAML"),
        ('{"$ref": "https://elsewhere.example/schema.json"}', "not JSON Schema"),
    ],
)
def test_a_payload_schema_that_is_none_is_a_fault(
    faults: Callable[..., list[tuple[int, str]]], schema: str | None, says: str
) -> None:
    ((_, reason),) = faults(GOOD, schema=schema)
    assert says in reason


PAYLOAD = {"list": [{"t": "2022-07-01T12:00:00Z", "s": 120, "d": 80}], "u": 0}


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ({}, "there is no example"),
        ({"a": (PAYLOAD, None)}, "missing: what the payload must become"),
        ({"a": (PAYLOAD, [])}, "the whole: 0 expected, there are 1"),
        ({"a": (PAYLOAD, [{"ignored": "goal"}])}, "[0].ignored: expected, but not there"),
        ({"a": ({"list": [PAYLOAD["list"][0] | {"s": 60}], "u": 0}, [])}, "there are 1"),
    ],
)
def test_an_example_must_become_what_is_expected(
    faults: Callable[..., list[tuple[int, str]]], examples: Any, says: str
) -> None:
    assert any(says in reason for _, reason in faults(GOOD, examples=examples))


def test_a_difference_is_named_at_the_line_of_the_expected_file(
    language: Language, files: dict[str, MappingFiles]
) -> None:
    found = files["iot-hub"]
    example = next(e for e in found.examples if e.case == "heart-rate")
    assert example.expected_text is not None
    changed = example._replace(expected_text=example.expected_text.replace("66", "67"))
    (fault,) = check(found._replace(examples=(changed,)), language)
    line = changed.expected_text.splitlines()[fault.line - 1]
    assert "67" in line
    assert "expected 67, became 66" in fault.reason
    assert PurePath(fault.path).name == "heart-rate.expected.json"
    assert str(fault).startswith(f"{fault.path}:{fault.line}: ")


def test_the_example_of_the_page_that_teaches_the_language_has_no_fault(
    faults: Callable[..., list[tuple[int, str]]],
) -> None:
    page = (shipped_folder("mappings") / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    text = textwrap.dedent(found[1])
    payload = {"serial": "A1", "measurements": []}
    examples = {"none": (payload, [{"ignored": "no-readings"}])}
    assert faults(text, name="acme-cuff", examples=examples) == []
