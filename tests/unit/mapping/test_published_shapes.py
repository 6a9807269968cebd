"""Ours have the elements of the published examples; `mapping-decisions.md` says where not.

The lists are of element names: of the Personal Health Device guide's compound blood pressure
and numeric glucose, and of the German specification's blood pressure and glucose.
"""

import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "mappings" / "bluetooth" / "examples"

BASE = {"meta", "status", "category", "code", "subject", "effectiveDateTime", "device"}
PHD_PRESSURE = {*BASE, "extension", "performer", "component"}
PHD_GLUCOSE = {*BASE, "extension", "valueQuantity"}
HDDT_PRESSURE = {"status", "category", "code", "effectiveDateTime", "device", "component"}
HDDT_GLUCOSE = {"status", "code", "effectiveDateTime", "valueQuantity", "device"}

# Gateway, coincident time stamp and confidence stand in extensions.
LEFT_OUT = {"extension"}
ADDED = {"resourceType", "identifier", "performer", "issued", "component", "subject", "category"}


def observation(case):
    (found, *_) = json.loads((EXAMPLES / f"{case}.expected.json").read_text())
    return found["resource"]


@pytest.mark.parametrize(
    ("case", "published"),
    [
        ("blood-pressure", PHD_PRESSURE),
        ("blood-pressure", HDDT_PRESSURE),
        ("glucose", PHD_GLUCOSE),
        ("glucose", HDDT_GLUCOSE),
    ],
)
def test_what_the_example_has_ours_has_but_for_what_is_written_down(case, published):
    ours = set(observation(case))
    missing = published - ours - LEFT_OUT
    # Glucose has no profile of R4.
    assert missing <= ({"meta"} if case == "glucose" else set())
    assert ours - published - BASE <= ADDED


def test_a_pressure_has_the_codes_and_units_of_both():
    pressure = observation("blood-pressure")
    for part, loinc, mdc in (
        (pressure, "85354-9", "150020"),
        (pressure["component"][0], "8480-6", "150021"),
        (pressure["component"][1], "8462-4", "150022"),
    ):
        codes = {(c["system"], c["code"]) for c in part["code"]["coding"]}
        assert codes >= {("http://loinc.org", loinc), ("urn:iso:std:iso:11073:10101", mdc)}
    for component in pressure["component"][:2]:
        quantity = component["valueQuantity"]
        assert (quantity["system"], quantity["code"]) == ("http://unitsofmeasure.org", "mm[Hg]")
    categories = {c["coding"][0]["code"] for c in pressure["category"]}
    assert categories == {"vital-signs", "phd"}
