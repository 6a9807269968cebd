"""Stage one: what a payload holds, what is wrong with it, and whose it is."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server import definitions
from fhir_server.core.mapping.catalog import compile_catalog
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    IdentifierToken,
    Ignored,
    QuarantineReason,
    Reading,
)

RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)
KNOWS_NOTHING = Gateway(RECEIVED)
FIELDS = (
    "type time device patient values systolic diastolic HP LP HR BPDataList BPUnit MDate "
    "TimeZone Note list v t"
)


def pressure(**changes: Any) -> dict[str, Any]:
    return {
        "type": "Blood Pressure",
        "time": "2022-07-01T12:01:00Z",
        "device": "D",
        "patient": "P",
        "values": {"systolic": 119, "diastolic": 79},
    } | changes


def page(*records: dict[str, Any], unit: int = 0) -> dict[str, Any]:
    return {"BPUnit": unit, "BPDataList": list(records)}


def record(**changes: Any) -> dict[str, Any]:
    return {"MDate": 1442491463, "TimeZone": "-0800", "HP": 120, "LP": 90, "HR": 60} | changes


def the_fault(mapping: Mapping, payload: Any, gateway: Gateway = KNOWS_NOTHING) -> Fault:
    (outcome,) = mapping.read(payload, gateway)
    assert isinstance(outcome, Fault)
    return outcome


def test_a_type_that_no_rule_knows_is_quarantined(iot_hub: Mapping) -> None:
    assert the_fault(iot_hub, pressure(type="Skin")).reason is QuarantineReason.UNKNOWN_KIND


@pytest.mark.parametrize("kind", ["Goal", "Heart Rate Goal", "Blood Pressure Goal"])
def test_a_goal_is_no_measurement(iot_hub: Mapping, kind: str) -> None:
    assert iot_hub.read(pressure(type=kind), Gateway(RECEIVED)) == (Ignored("goal"),)


def test_a_payload_that_breaks_its_schema_names_the_place_and_no_value(iot_hub: Mapping) -> None:
    payload = pressure(values={"systolic": "secret", "diastolic": 79})
    fault = the_fault(iot_hub, payload)
    assert fault.reason is QuarantineReason.INVALID_PAYLOAD
    assert "values.systolic" in fault.detail
    assert "secret" not in fault.detail


def test_one_bad_record_of_a_page_leaves_the_good_ones(ihealth: Mapping) -> None:
    good, bad = record(), record(HP="?", MDate=1442491999)
    outcomes = ihealth.read(page(good, bad, record(MDate=1442492999)), Gateway(RECEIVED))
    assert [type(o).__name__ for o in outcomes] == ["Reading", "Reading", "Fault", *["Reading"] * 2]
    fault = outcomes[2]
    assert isinstance(fault, Fault)
    assert fault.detail.startswith("BPDataList[1].HP")


def test_a_page_that_does_not_say_its_unit_is_quarantined_whole(ihealth: Mapping) -> None:
    fault = the_fault(ihealth, {"BPDataList": [record()]})
    assert fault.reason is QuarantineReason.INVALID_PAYLOAD


def test_a_unit_that_the_mapping_does_not_know_is_never_guessed(ihealth: Mapping) -> None:
    outcomes = ihealth.read(page(record(), unit=7), Gateway(RECEIVED))
    pressures = [o for o in outcomes if isinstance(o, Fault)]
    assert [fault.reason for fault in pressures] == [QuarantineReason.INVALID_VALUE]
    assert [o.kind for o in outcomes if isinstance(o, Reading)] == ["heart-rate"]


def test_one_missing_number_of_a_pressure_is_absent_with_a_reason(
    ihealth: Mapping, placement: Any
) -> None:
    outcome = ihealth.read(page(record(LP=0, HR=0)), Gateway(RECEIVED))[0]
    assert isinstance(outcome, Reading)
    systolic, diastolic = ihealth.project(outcome, placement, RECEIVED)["component"]
    assert systolic["valueQuantity"]["value"] == 120
    assert "valueQuantity" not in diastolic
    assert diastolic["dataAbsentReason"]["coding"][0]["code"] == "unknown"


def test_an_impossible_value_is_quarantined(iot_hub: Mapping) -> None:
    payload = pressure(type="Oxygen Saturation", values={"oxygenPercentage": Decimal("120")})
    assert the_fault(iot_hub, payload).reason is QuarantineReason.IMPLAUSIBLE


def test_a_diastolic_pressure_above_the_systolic_one_is_quarantined(iot_hub: Mapping) -> None:
    fault = the_fault(iot_hub, pressure(values={"systolic": 79, "diastolic": 119}))
    assert fault.reason is QuarantineReason.IMPLAUSIBLE
    assert fault.detail == "diastolic is above systolic"


def test_a_number_of_the_other_unit_is_quarantined(ihealth: Mapping) -> None:
    payload = {
        "DataType": "BG", "BGUnit": 1,
        "BGDataList": [
            {"BG": 560, "MDate": 1442491407, "TimeZone": "+0300", "DataSource": "FromDevice"}
        ],
    }  # fmt: skip
    assert [o.reason for o in ihealth.read(payload, KNOWS_NOTHING)] == [
        QuarantineReason.IMPLAUSIBLE
    ]


def test_a_scale_that_nobody_stood_on_is_quarantined(catalog: Any) -> None:
    payload = {"device": "urn:x|1", "characteristic": "2A9D", "value": "000000"}
    outcomes = catalog.get("bluetooth").read(payload, KNOWS_NOTHING)
    assert [o.reason for o in outcomes] == [QuarantineReason.IMPLAUSIBLE]


def test_a_stamp_from_the_future_is_a_wrong_clock(iot_hub: Mapping) -> None:
    ahead = the_fault(iot_hub, pressure(time="2026-01-03T00:00:00Z"))
    assert ahead.reason is QuarantineReason.INVALID_TIME
    tomorrow = iot_hub.read(pressure(time="2026-01-01T23:59:00Z"), Gateway(RECEIVED))
    assert isinstance(tomorrow[0], Reading)


def test_the_gateway_fills_in_what_the_payload_does_not_say(ihealth: Mapping) -> None:
    cuff = IdentifierToken("https://acme.example/serial", "SN-1")
    outcome = ihealth.read(page(record()), Gateway(RECEIVED, device=cuff))[0]
    assert isinstance(outcome, Reading)
    assert (outcome.device, outcome.patient) == (cuff, None)


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        ({"device": IdentifierToken(None, "other")}, QuarantineReason.DEVICE_MISMATCH),
        ({"patient": IdentifierToken("s", "other")}, QuarantineReason.PATIENT_MISMATCH),
    ],
)
def test_gateway_and_payload_that_disagree_are_never_guessed(
    iot_hub: Mapping, known: dict[str, Any], reason: QuarantineReason
) -> None:
    assert the_fault(iot_hub, pressure(), Gateway(RECEIVED, **known)).reason is reason


def test_of_two_names_that_agree_the_one_with_a_system_is_taken(iot_hub: Mapping) -> None:
    known = IdentifierToken("https://acme.example/serial", "D")
    outcome = iot_hub.read(pressure(), Gateway(RECEIVED, device=known))[0]
    assert isinstance(outcome, Reading)
    assert outcome.device == known


LIMITS = """
mapping: acme
device: {value: sn, system: "https://acme.example/serial"}
records:
  - each: list
    when: type == 'glu'
    time: {at: t, format: epoch-milliseconds}
    ignore:
      - {when: "control == `true`", reason: control-solution}
      - {when: test, reason: test}
    duration: {at: took, unit: seconds}
    flags: [{name: above-range, when: v == 'HI'}]
    readings:
      - kind: glucose
        value:
          at: v
          unit: mmol/L
          scale: 0.1
          special:
            HI: {comparator: ">", value: 333}
            LO: {comparator: "<", value: 11}
            ERR: {absent: error}
"""


def test_what_the_top_of_a_file_names_is_looked_for_in_the_whole_payload(
    compiled: Callable[[str], Mapping],
) -> None:
    outcome = compiled(LIMITS).read(glucose(56, sn="not this"), Gateway(RECEIVED))[0]
    assert isinstance(outcome, Reading)
    assert outcome.device == IdentifierToken("https://acme.example/serial", "S")


def test_what_a_record_rule_names_is_looked_for_in_the_record(
    compiled: Callable[[str], Mapping],
) -> None:
    text = LIMITS.replace("  - each: list", "  - each: list\n    device: {value: sn}")
    outcome = compiled(text).read(glucose(56, sn="R"), Gateway(RECEIVED))[0]
    assert isinstance(outcome, Reading)
    assert outcome.device == IdentifierToken(None, "R")


def test_a_fault_names_what_is_missing_once(iot_hub: Mapping) -> None:
    detail = the_fault(iot_hub, {}).detail
    assert "type is required" in detail
    assert detail.count("time is required") == 1
    broken = the_fault(iot_hub, pressure(values={"systolic": 119}))
    assert broken.detail == "values.diastolic is required"


def glucose(value: Any, **more: Any) -> dict[str, Any]:
    return {"type": "glu", "sn": "S", "list": [{"t": 1700000000000, "v": value} | more]}


@pytest.mark.parametrize(
    ("said", "value", "comparator", "absent"),
    [
        (56, "5.6", "", ""),
        (50, "5.0", "", ""),
        ("56", "5.6", "", ""),
        ("HI", "33.3", ">", ""),
        ("LO", "1.1", "<", ""),
        ("ERR", None, "", "error"),
        ("NaN", None, "", "not-a-number"),
        ("-INFINITY", None, "", "negative-infinity"),
    ],
)
def test_special_values_are_limits_or_reasons_for_absence(
    compiled: Callable[[str], Mapping],
    said: Any,
    value: str | None,
    comparator: str,
    absent: str,
) -> None:
    outcome = compiled(LIMITS).read(glucose(said), Gateway(RECEIVED))[0]
    assert isinstance(outcome, Reading)
    measured = outcome.values[0]
    assert (measured.value if measured.value is None else str(measured.value)) == value
    assert (measured.comparator, measured.absent) == (comparator, absent)


@pytest.mark.parametrize("said", ["12,5", "1e400", "twelve", [], True, "١٢", "1_0"])
def test_what_is_no_number_is_quarantined(compiled: Callable[[str], Mapping], said: Any) -> None:
    fault = the_fault(compiled(LIMITS), glucose(said))
    assert fault.reason is QuarantineReason.INVALID_VALUE
    assert fault.detail.startswith("glucose (v)")


@pytest.mark.parametrize(
    ("more", "reason"), [({"control": True}, "control-solution"), ({"test": 1}, "test")]
)
def test_control_solutions_and_tests_are_kept_apart(
    compiled: Callable[[str], Mapping], more: dict[str, Any], reason: str
) -> None:
    found = compiled(LIMITS).read(glucose(56, **more), Gateway(RECEIVED))
    assert found == (Ignored(reason),)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["Blood Pressure", "Goal", "2022-07-01T12:01:00Z", "-0800"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(FIELDS.split()),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


_CATALOG = compile_catalog(
    definitions.read_mapping_files([definitions.shipped_folder("mappings")]),
    definitions.read_mapping_language([definitions.shipped_folder("terminology")], "Europe/Moscow"),
)


@settings(max_examples=200, deadline=None)
@given(payload=JSON, name=st.sampled_from(["ihealth", "iot-hub"]))
def test_no_payload_whatever_raises(payload: Any, name: str) -> None:
    mapping = _CATALOG.get(name)
    assert isinstance(mapping, Mapping)
    assert mapping.read(payload, Gateway(RECEIVED))


@settings(max_examples=100, deadline=None)
@given(payload=JSON)
def test_no_prescription_whatever_raises(payload: Any) -> None:
    mapping = _CATALOG.get("device-kit")
    assert isinstance(mapping, Mapping)
    assert mapping.prescription(payload)
