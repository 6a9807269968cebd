"""Stage two: what an Observation says beside its value."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Gateway, Reading

ISSUED = datetime(2026, 1, 1, 12, tzinfo=UTC)
GATEWAY = Gateway(ISSUED)


def observations(mapping: Mapping, payload: Any, placement: Placement) -> list[Any]:
    return [
        mapping.project(outcome, placement, ISSUED)
        for outcome in mapping.read(payload, GATEWAY)
        if isinstance(outcome, Reading)
    ]


@pytest.fixture
def saturation() -> dict[str, Any]:
    return {
        "type": "Oxygen Saturation",
        "time": "2022-07-01T12:02:00Z",
        "values": {"oxygenPercentage": 99},
    }


def test_an_observation_names_whose_it_is_and_what_took_it(
    iot_hub: Mapping, placement: Placement, saturation: Any
) -> None:
    (resource,) = observations(iot_hub, saturation, placement)
    assert resource["status"] == "final"
    assert resource["subject"] == {"reference": "Patient/p1"}
    assert resource["performer"] == [{"reference": "Patient/p1"}]
    assert resource["device"] == {"reference": "Device/d1"}
    assert resource["issued"] == "2026-01-01T12:00:00.000Z"
    assert "basedOn" not in resource
    assert "tag" not in resource["meta"]


def test_saturation_has_both_codes_its_profile_and_both_categories(
    iot_hub: Mapping, placement: Placement, saturation: Any
) -> None:
    (resource,) = observations(iot_hub, saturation, placement)
    codes = [coding["code"] for coding in resource["code"]["coding"]]
    assert codes == ["2708-6", "59408-5", "150456"]
    assert resource["meta"]["profile"] == [
        "http://hl7.org/fhir/StructureDefinition/oxygensat",
        "https://pmp.example/fhir/StructureDefinition/device-reading",
    ]
    categories = [c["coding"][0]["code"] for c in resource["category"]]
    assert categories == ["vital-signs", "phd"]


def test_a_reading_that_answers_a_plan_is_based_on_it(
    iot_hub: Mapping, placement: Placement, saturation: Any
) -> None:
    asked = placement._replace(based_on=(ResourceKey("CarePlan", "c1"),))
    (resource,) = observations(iot_hub, saturation, asked)
    assert resource["basedOn"] == [{"reference": "CarePlan/c1"}]


def test_an_auxiliary_devices_reading_is_tagged_and_keeps_its_profile(
    iot_hub: Mapping, placement: Placement, saturation: Any
) -> None:
    (resource,) = observations(iot_hub, saturation, placement._replace(is_auxiliary=True))
    assert resource["meta"]["tag"] == [
        {"system": "https://pmp.example/fhir/CodeSystem/device-standing", "code": "auxiliary"}
    ]
    assert resource["meta"]["profile"]


def test_a_pulse_has_the_code_of_the_device_that_took_it(
    ihealth: Mapping, iot_hub: Mapping, placement: Placement
) -> None:
    stamp = {"MDate": 1442491463, "TimeZone": "-0800"}
    cuff = {"BPUnit": 0, "BPDataList": [stamp | {"HP": 120, "LP": 80, "HR": 60}]}
    oximeter = {"BODataList": [stamp | {"BO": 98, "HR": 60}]}
    unknown = {
        "type": "Heart Rate",
        "time": "2022-07-01T12:02:00Z",
        "values": {"beatsPerMinute": 60},
    }
    found = [
        [c["code"] for c in observations(mapping, payload, placement)[-1]["code"]["coding"]]
        for mapping, payload in ((ihealth, cuff), (ihealth, oximeter), (iot_hub, unknown))
    ]
    assert found == [["8867-4", "149546"], ["8867-4", "149530"], ["8867-4"]]


def test_a_pressure_panel_has_components_and_no_value(
    ihealth: Mapping, placement: Placement
) -> None:
    stamp = {"MDate": 1442491463, "TimeZone": "-0800"}
    cuff = {"BPUnit": 0, "BPDataList": [stamp | {"HP": 120, "LP": 80}]}
    (resource,) = observations(ihealth, cuff, placement)
    assert not [name for name in resource if name.startswith("value")]
    codes = [
        [coding["code"] for coding in component["code"]["coding"]]
        for component in resource["component"]
    ]
    assert codes == [["8480-6", "150021"], ["8462-4", "150022"]]


RICH = """
mapping: acme
personal: false
records:
  - time: {at: t, format: iso}
    duration: {at: minutes, unit: minutes}
    note: said
    supplements:
      - {name: average, when: avg, code: {system: "urn:iso:std:iso:11073:10101", code: "1"}}
    readings:
      - kind: body-temperature
        body-site: {system: "http://snomed.info/sct", code: "123", display: Ear}
        method: {system: "https://acme.example/method", code: infrared}
        profile: ["https://acme.example/StructureDefinition/ear"]
        value: {at: v, unit: "[degF]", store: Cel}
      - kind: mood
        when: mood
        category: survey
        code: {system: "https://acme.example/code", code: mood, display: Mood}
        value: {at: mood, is: {"1": good}}
"""


def rich(**more: Any) -> dict[str, Any]:
    return {"t": "2022-07-01T12:00:00+03:00", "v": 98} | more


def test_site_method_and_further_profiles_are_written(
    compiled: Callable[[str], Mapping], placement: Placement
) -> None:
    (resource,) = observations(compiled(RICH), rich(), placement)
    assert resource["bodySite"]["text"] == "Ear"
    assert resource["method"]["coding"][0]["code"] == "infrared"
    assert resource["meta"]["profile"][-1] == "https://acme.example/StructureDefinition/ear"
    assert [c["coding"][0]["code"] for c in resource["category"]] == ["vital-signs"]


def test_a_duration_makes_a_period(
    compiled: Callable[[str], Mapping], placement: Placement
) -> None:
    (resource,) = observations(compiled(RICH), rich(minutes=90), placement)
    assert resource["effectivePeriod"] == {
        "start": "2022-07-01T12:00:00+03:00",
        "end": "2022-07-01T13:30:00+03:00",
    }
    assert "effectiveDateTime" not in resource


def test_a_supplemental_type_is_a_component(
    compiled: Callable[[str], Mapping], placement: Placement
) -> None:
    (resource,) = observations(compiled(RICH), rich(avg=True), placement)
    assert resource["component"][0]["code"]["coding"][0]["code"] == "68193"
    assert resource["component"][0]["valueCodeableConcept"]["coding"][0]["code"] == "1"


def test_a_kind_of_ones_own_has_its_local_code(
    compiled: Callable[[str], Mapping], placement: Placement
) -> None:
    resource = observations(compiled(RICH), rich(mood=1), placement)[1]
    assert resource["code"]["coding"][0]["system"] == "https://acme.example/code"
    assert resource["valueCodeableConcept"] == {"text": "good"}
    assert [c["coding"][0]["code"] for c in resource["category"]] == ["survey"]


def test_a_note_holds_no_control_characters(
    compiled: Callable[[str], Mapping], placement: Placement
) -> None:
    (resource,) = observations(compiled(RICH), rich(said=" a\x00b\nc "), placement)
    assert resource["note"] == [{"text": "a b\nc"}]


def test_a_limit_has_its_comparator_and_a_failure_its_reason(
    compiled: Callable[[str], Mapping], placement: Placement
) -> None:
    mapping = compiled(
        """
mapping: acme
records:
  - time: {at: t, format: iso}
    flags: [{name: above-range, when: v == 'HI'}]
    readings:
      - kind: glucose
        value:
          at: v
          unit: {at: u, is: {a: mmol/L, b: mg/dL}}
          special: {HI: {comparator: ">", value: 600}, ERR: {absent: error}}
"""
    )
    high, _status = observations(mapping, rich(v="HI", u="b"), placement)
    assert high["valueQuantity"]["comparator"] == ">"
    assert high["interpretation"][0]["coding"][0]["code"] == ">"
    (failed,) = observations(mapping, rich(v="ERR", u="b"), placement)
    assert failed["dataAbsentReason"]["coding"][0]["code"] == "error"
    assert failed["code"]["coding"][0]["code"] == "41653-7"
    assert "valueQuantity" not in failed
