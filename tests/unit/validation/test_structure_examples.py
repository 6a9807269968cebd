"""Resources that keep all the rules are let through, whatever they use of FHIR."""

from pathlib import Path

import pytest

NAMES = sorted(path.stem for path in (Path(__file__).parent / "examples").glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_a_good_resource_has_no_fault(validator, examples, name):
    assert validator.check(examples[name]) == ()


def test_every_resource_type_of_r4_can_be_stored(validator):
    assert len(validator.resource_types) == 146
    assert {"Patient", "Observation", "Bundle", "Binary"} <= validator.resource_types
    assert not {"Resource", "DomainResource", "Quantity"} & validator.resource_types


@pytest.mark.parametrize(
    "reference",
    [
        "Patient/1",
        "Patient/1/_history/2",
        "Patient?identifier=a|b",
        "urn:uuid:c757873d-ec9a-4326-a141-556f43239520",
        "https://other.example/fhir/Patient/1",
        "mailto:nobody@pmp.example",
    ],
)
def test_a_reference_may_be_written_in_every_way_of_fhir(validator, reference):
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "subject": {"reference": reference},
    }

    assert validator.check(observation) == ()


@pytest.mark.parametrize("text", ["a\u00a0b", "\u2028", "a\tb\r\nc", "😀", " "])
def test_a_text_may_hold_any_printable_character(validator, text):
    assert validator.check({"resourceType": "Patient", "name": [{"text": text}]}) == ()


def test_a_required_primitive_may_be_an_extension(validator):
    absent = {"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason"}
    observation = {
        "resourceType": "Observation",
        "_status": {"extension": [{**absent, "valueCode": "unknown"}]},
        "code": {"text": "x"},
    }

    assert validator.check(observation) == ()
