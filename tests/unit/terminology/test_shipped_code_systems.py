"""The code systems of `terminology/` have what readings bear, and nothing else of ours."""

import json

import pytest

from fhir_server.core.mapping.knowledge import parse
from fhir_server.r4_files import shipped_folder

FOLDER = shipped_folder("terminology")
KNOWLEDGE = parse([(FOLDER / "measurements.json").read_bytes()])


def concepts(name):
    resource = json.loads((FOLDER / f"CodeSystem-{name}.json").read_text(encoding="utf-8"))
    return {each["code"]: each.get("display") for each in resource["concept"]}


def test_every_flag_without_a_standard_code_is_one_of_ours():
    ours = {name: flag.display for name, flag in KNOWLEDGE.flags.items() if not flag.system}
    assert concepts("reading-flag") == ours


def test_every_measurement_without_a_standard_code_is_one_of_ours():
    ours = {
        str(owner): quality.display
        for owner, quality in KNOWLEDGE.owners()
        if not quality.mdc and not (quality.codes and all(code.codings() for code in quality.codes))
    }
    assert concepts("measurement") == ours


def test_every_bit_of_a_status_is_known():
    bits = {
        f"{kind.status.mdc}.{bit.bit}"
        for kind in KNOWLEDGE.measurements.values()
        if kind.status
        for bit in kind.status.bits.values()
    }
    assert set(concepts("asn1-to-hl7")) == bits


@pytest.mark.parametrize("name", ["above-range", "below-range"])
def test_a_flag_of_a_standard_has_its_display_and_our_words(name):
    flag = KNOWLEDGE.flags[name]
    assert flag.display.startswith("Off scale")
    assert "the device's range" in flag.text
    assert flag.text != flag.display


def codings(value):
    if isinstance(value, dict):
        if isinstance(value.get("system"), str) and isinstance(value.get("code"), str):
            yield value["system"], value["code"]
        for each in value.values():
            yield from codings(each)
    elif isinstance(value, list):
        for each in value:
            yield from codings(each)


def test_every_code_that_the_examples_make_is_in_the_part_that_ships():
    shipped = {}
    for path in FOLDER.glob("CodeSystem-*.json"):
        resource = json.loads(path.read_text(encoding="utf-8"))
        shipped[resource["url"]] = {each["code"] for each in resource["concept"]}
    made = {
        coding
        for path in shipped_folder("mappings").glob("*/examples/*.expected.json")
        for coding in codings(json.loads(path.read_text(encoding="utf-8")))
        if coding[0] in shipped
    }
    assert len(made) > 50
    assert {(system, code) for system, code in made if code not in shipped[system]} == set()


def pairs(name):
    resource = json.loads((FOLDER / f"ConceptMap-{name}.json").read_text(encoding="utf-8"))
    (group,) = resource["group"]
    return {
        (element["code"], target["code"]): target["equivalence"]
        for element in group["element"]
        for target in element["target"]
        if target["equivalence"] != "unmatched"
    }


def test_the_map_from_mdc_says_what_the_map_to_it_does():
    turned = {"wider": "narrower", "narrower": "wider"}
    expected = {
        (mdc, loinc): turned.get(equivalence, equivalence)
        for (loinc, mdc), equivalence in pairs("loinc-mdc").items()
    }
    assert pairs("mdc-loinc") == expected


@pytest.mark.parametrize("path", sorted(FOLDER.glob("ConceptMap-*.json")), ids=lambda p: p.stem)
def test_a_map_says_in_words_what_does_not_fit(path):
    for group in json.loads(path.read_text(encoding="utf-8"))["group"]:
        for element in group["element"]:
            for target in element["target"]:
                if target["equivalence"] in ("narrower", "inexact", "unmatched"):
                    assert target["comment"], element["code"]
