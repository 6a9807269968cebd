"""Every shipped example, and what the real payloads must become."""

from decimal import Decimal
from typing import Any

import pytest

from fhir_server import definitions
from fhir_server.core import resource_json
from fhir_server.core.mapping.check import check, outcomes_json
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.language import Language
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.reading import Gateway, Ignored, Reading

SHIPPED = definitions.read_mapping_files([definitions.shipped_folder("mappings")])
READING_EXAMPLES = [
    (name, example)
    for name, found in SHIPPED.items()
    if name != "device-kit"
    for example in found.examples
]


def payload_of(files: dict[str, MappingFiles], name: str, case: str) -> Any:
    text = next(e.payload_text for e in files[name].examples if e.case == case)
    return resource_json.parse(text.encode())


def readings(mapping: Mapping, payload: Any, gateway: Gateway) -> list[Reading]:
    found = mapping.read(payload, gateway)
    assert all(isinstance(outcome, Reading) for outcome in found), found
    return [outcome for outcome in found if isinstance(outcome, Reading)]


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_a_shipped_mapping_has_no_fault(name: str, language: Language) -> None:
    assert [str(fault) for fault in check(SHIPPED[name], language)] == []


@pytest.fixture(scope="module")
def validator() -> Any:
    return definitions.load().validator


@pytest.mark.parametrize(("name", "example"), READING_EXAMPLES, ids=lambda v: getattr(v, "case", v))
def test_what_an_example_becomes_is_valid_r4(
    name: str, example: Any, catalog: Any, validator: Any
) -> None:
    outcomes = outcomes_json(catalog.get(name), resource_json.parse(example.payload_text.encode()))
    for outcome in outcomes:
        if "resource" in outcome:
            stored = resource_json.parse(resource_json.format(outcome["resource"]))
            assert validator.check(stored) == ()


def test_a_wall_clock_stored_as_epoch_takes_the_zone_beside_it(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway
) -> None:
    first, _, second, _ = readings(ihealth, payload_of(files, "ihealth", "bp"), gateway)
    assert first.effective == "2015-09-17T12:04:23-08:00"
    assert first.stamp == "2015-09-17T20:04:23Z"
    assert second.effective == "2015-09-17T14:07:45-06:00"


def test_pressure_and_pulse_of_one_record_are_two_readings(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway
) -> None:
    found = readings(ihealth, payload_of(files, "ihealth", "bp"), gateway)
    assert [reading.kind for reading in found] == ["blood-pressure", "heart-rate"] * 2
    assert [(v.name, v.value, v.unit) for v in found[0].values] == [
        ("systolic", Decimal(120), "mm[Hg]"),
        ("diastolic", Decimal(90), "mm[Hg]"),
    ]
    assert found[1].values[0].value == Decimal(100)


def test_a_pulse_of_zero_is_no_reading(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway
) -> None:
    payload = payload_of(files, "ihealth", "bp-no-heart-rate")
    assert [r.kind for r in readings(ihealth, payload, gateway)] == ["blood-pressure"]


@pytest.mark.parametrize("case", ["spo2-no-oxygen-saturation", "weight-no-weight-value"])
def test_a_record_of_placeholders_is_ignored(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway, case: str
) -> None:
    payload = payload_of(files, "ihealth", case)
    assert ihealth.read(payload, gateway) == (Ignored("placeholder"),)


@pytest.mark.parametrize("case", ["bp-empty", "glucose-empty", "weight-empty"])
def test_an_empty_page_is_said_to_hold_nothing(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway, case: str
) -> None:
    payload = payload_of(files, "ihealth", case)
    assert ihealth.read(payload, gateway) == (Ignored("no-readings"),)


def test_every_digit_of_a_weight_is_kept(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway
) -> None:
    first, second = readings(ihealth, payload_of(files, "ihealth", "weight"), gateway)
    assert str(first.values[0].value) == "77.5643875134944"
    assert str(second.values[0].value) == "77.56438446044922"


def test_pounds_become_kilograms_and_stay_beside_them(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway
) -> None:
    payload = payload_of(files, "ihealth", "weight") | {"WeightUnit": 1}
    payload["WeightDataList"][0]["WeightValue"] = Decimal("171.0")
    value = readings(ihealth, payload, gateway)[0].values[0]
    assert (str(value.value), value.unit) == ("77.56", "kg")
    assert (str(value.original), value.original_unit) == ("171.0", "[lb_av]")


def test_glucose_takes_the_code_of_the_unit_it_was_measured_in(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway, placement: Any
) -> None:
    payload = payload_of(files, "ihealth", "glucose")
    mass = readings(ihealth, payload, gateway)[0]
    payload |= {"BGUnit": 1}
    for record in payload["BGDataList"]:
        record["BG"] = Decimal("3.3")
    moles = readings(ihealth, payload, gateway)[0]
    for reading, loinc, unit in ((mass, "41653-7", "mg/dL"), (moles, "14743-9", "mmol/L")):
        resource = ihealth.project(reading, placement, gateway.received)
        assert resource["code"]["coding"][0]["code"] == loinc
        assert resource["valueQuantity"]["code"] == unit


def test_a_reading_typed_by_the_patient_says_so(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway, placement: Any
) -> None:
    from_device, typed = readings(ihealth, payload_of(files, "ihealth", "glucose"), gateway)
    assert "method" not in ihealth.project(from_device, placement, gateway.received)
    method = ihealth.project(typed, placement, gateway.received)["method"]
    assert method["coding"][0]["code"] == "manual-entry"


def test_an_irregular_pulse_makes_the_reading_questionable(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway, placement: Any
) -> None:
    payload = payload_of(files, "ihealth", "bp-kilopascal-irregular")
    pressure = readings(ihealth, payload, gateway)[0]
    resource = ihealth.project(pressure, placement, gateway.received)
    codes = [concept["coding"][0]["code"] for concept in resource["interpretation"]]
    assert codes == ["irregular-pulse", "questionable"]


def test_kilopascal_becomes_millimetres_and_stays_beside_them(
    ihealth: Mapping, files: dict[str, MappingFiles], gateway: Gateway, placement: Any
) -> None:
    payload = payload_of(files, "ihealth", "bp-kilopascal-irregular")
    pressure = readings(ihealth, payload, gateway)[0]
    resource = ihealth.project(pressure, placement, gateway.received)
    quantity = resource["component"][0]["valueQuantity"]
    assert (str(quantity["value"]), quantity["code"]) == ("120.0", "mm[Hg]")
    original = quantity["extension"][0]["valueQuantity"]
    assert (str(original["value"]), original["code"]) == ("16.0", "kPa")


@pytest.mark.parametrize(
    ("said", "code"),
    [("Before_breakfast", "8417868"), ("After_dinner", "8417872"), ("At_midnight", None)],
)
def test_a_meal_context_that_is_not_known_is_kept_as_text(
    ihealth: Mapping,
    files: dict[str, MappingFiles],
    gateway: Gateway,
    placement: Any,
    said: str,
    code: str | None,
) -> None:
    payload = payload_of(files, "ihealth", "glucose")
    payload["BGDataList"][0]["DinnerSituation"] = said
    reading = readings(ihealth, payload, gateway)[0]
    concept = ihealth.project(reading, placement, gateway.received)["component"][0][
        "valueCodeableConcept"
    ]
    if code is None:
        assert concept == {"text": said}
    else:
        assert concept["coding"][0]["code"] == code
