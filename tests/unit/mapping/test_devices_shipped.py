"""The devices of the programme whose payloads are JSON, a table or HL7."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.mapping.catalog import MappingCatalog
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    IdentifierToken,
    Ignored,
    Outcome,
    QuarantineReason,
    Reading,
)

RECEIVED = datetime(2027, 1, 1, tzinfo=UTC)
GATEWAY = Gateway(RECEIVED)
AUXILIARY = {"system": "https://pmp.example/fhir/CodeSystem/device-standing", "code": "auxiliary"}
OURS = "https://pmp.example/fhir/StructureDefinition/"
FETAL_CODES = {"55283-6", "11948-7", "57068-9"}


@pytest.fixture(scope="module")
def mappings(catalog: MappingCatalog) -> Any:
    def get(name: str) -> Mapping:
        found = catalog.get(name)
        assert isinstance(found, Mapping), found
        return found

    return get


def projected(
    mapping: Mapping, sent: Any, placement: Placement, gateway: Gateway = GATEWAY
) -> list[Any]:
    found = mapping.read(sent, gateway)
    return [mapping.project(o, placement, RECEIVED) for o in found if isinstance(o, Reading)]


def codes(resource: Any) -> list[str]:
    return [coding["code"] for coding in resource["code"]["coding"]]


def trace(**changes: Any) -> dict[str, Any]:
    return {
        "device": "FM-9",
        "start": "2026-03-01T10:00:00+03:00",
        "period": 250,
        "fhr-samples": [142, 0, None, 144],
        **changes,
    }


def test_a_lost_signal_is_a_gap_of_the_trace(mappings: Any, placement: Placement) -> None:
    first, summary = projected(mappings("fetal-monitor"), trace(), placement)
    assert first["valueSampledData"]["data"] == "142 E E 144"
    assert first["valueSampledData"]["period"] == 250
    assert first["effectivePeriod"]["end"] == "2026-03-01T10:00:01+03:00"
    assert summary["valueQuantity"]["value"] == 143
    assert summary["component"][2]["valueQuantity"]["value"] == Decimal("50.0")
    assert summary["derivedFrom"][0]["identifier"] == first["identifier"][0]


def test_forty_minutes_at_four_hertz_are_one_trace(mappings: Any, placement: Placement) -> None:
    sent = trace(**{"fhr-samples": [140] * 9600})
    first, _ = projected(mappings("fetal-monitor"), sent, placement)
    assert len(first["valueSampledData"]["data"].split()) == 9600
    assert first["effectivePeriod"]["end"] == "2026-03-01T10:40:00+03:00"


def test_a_fetus_is_the_focus_and_never_has_the_mothers_code(
    mappings: Any, placement: Placement
) -> None:
    sent = trace(**{"mhr-samples": [80, 80, 80, 80], "toco-samples": [1, 2, 3, 4]})
    found = projected(mappings("fetal-monitor"), sent, placement)
    fetal = [r for r in found if FETAL_CODES & set(codes(r))]
    rest = [r for r in found if not FETAL_CODES & set(codes(r))]
    assert [r["focus"][0]["display"] for r in fetal] == ["fetus 1", "fetus 1"]
    assert all("8867-4" not in codes(r) for r in fetal)
    claimed = [url for r in fetal for url in r["meta"]["profile"]]
    assert claimed == [f"{OURS}ctg-trace", f"{OURS}fetal-heart-rate"]
    assert all(r["subject"] == {"reference": "Patient/p1"} for r in found)
    assert [codes(r)[0] for r in rest] == ["uterine-activity-trace", "8867-4"]
    assert all("focus" not in r for r in rest)


def test_twins_measured_at_once_are_two_readings(mappings: Any, placement: Placement) -> None:
    monitor = mappings("fetal-monitor")
    one, two = (projected(monitor, trace(fetus=n), placement)[0] for n in (1, 2))
    assert one["identifier"] != two["identifier"]


@pytest.mark.parametrize(("maternal", "is_flagged"), [(80, False), (138, True), (149, False)])
def test_a_fetal_rate_that_may_be_the_mothers_is_questionable(
    mappings: Any, placement: Placement, maternal: int, is_flagged: bool
) -> None:
    sent = trace(**{"fhr-samples": [142] * 4, "mhr-samples": [maternal] * 4})
    first, summary, _ = projected(mappings("fetal-monitor"), sent, placement)
    for resource in (first, summary):
        said = [c["coding"][0]["code"] for c in resource.get("interpretation", [])]
        assert said == (["maternal-coincidence", "questionable"] if is_flagged else [])


@pytest.mark.parametrize(
    "broken",
    [
        trace(period=None),
        trace(period=0),
        trace(**{"fhr-samples": ["x"]}),
        trace(**{"mhr-samples": [1]}),
        {"taken": "2026-03-01T10:00:00Z", "fhr-samples": [1]},
    ],
)
def test_a_trace_that_cannot_be_read_is_a_fault(mappings: Any, broken: Any) -> None:
    (found,) = mappings("fetal-monitor").read(broken, GATEWAY)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.INVALID_PAYLOAD


def bracelet(*records: Any) -> dict[str, Any]:
    return {"device": "BR-3", "records": [{"time": "2026-03-01T03:00:00Z", **r} for r in records]}


def test_everything_of_a_bracelet_is_tagged_whatever_its_device_says(
    mappings: Any, placement: Placement
) -> None:
    sent = bracelet({"type": "heart-rate", "bpm": 61}, {"type": "steps", "minutes": 5, "count": 0})
    found = projected(mappings("bracelet"), sent, placement)
    assert len(found) == 2
    assert all(r["meta"]["tag"] == [AUXILIARY] for r in found)


def test_only_sdnn_has_the_code_of_sdnn(mappings: Any, placement: Placement) -> None:
    sent = bracelet(
        {"type": "hrv", "measure": "SDNN", "ms": 48}, {"type": "hrv", "measure": "RMSSD", "ms": 40}
    )
    sdnn, rmssd = projected(mappings("bracelet"), sent, placement)
    assert codes(sdnn) == ["80404-7"]
    assert codes(rmssd) == ["heart-rate-variability-rmssd"]


def test_a_whole_day_of_steps_has_the_code_of_24_hours(mappings: Any, placement: Placement) -> None:
    sent = bracelet(
        {"type": "steps", "minutes": 1440, "count": 8000},
        {"type": "steps", "minutes": 15, "count": 600},
    )
    day, quarter = projected(mappings("bracelet"), sent, placement)
    assert (codes(day), codes(quarter)) == (["41950-7"], ["55423-8"])
    assert "effectivePeriod" in quarter


def cgm(*records: Any, **changes: Any) -> dict[str, Any]:
    return {"transmitter": "T-1", "unit": "mg/dL", "records": list(records), **changes}


def test_a_monitors_limit_is_a_value_with_a_comparator_where_it_is_known(
    mappings: Any, placement: Placement
) -> None:
    time = "2026-03-01T08:00:00Z"
    sent = cgm(
        {"type": "glucose", "time": time, "value": "HIGH", "limit": 400},
        {"type": "glucose", "time": "2026-03-01T08:05:00Z", "value": "LOW"},
    )
    high, _, low, _ = projected(mappings("cgm"), sent, placement)
    assert (high["valueQuantity"]["comparator"], high["valueQuantity"]["value"]) == (">", 400)
    assert low["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert low["interpretation"][0]["coding"][0]["code"] == "<"


def test_a_calibration_is_a_finger_and_not_the_sensor(mappings: Any, placement: Placement) -> None:
    sent = cgm({"type": "calibration", "time": "2026-03-01T08:00:00Z", "value": 97})
    (resource,) = projected(mappings("cgm"), sent, placement)
    assert codes(resource)[0] == "41653-7"
    assert [c["coding"][0]["code"] for c in resource["interpretation"]] == ["calibration"]


def test_a_day_that_comes_at_once_and_backwards_is_a_reading_each(mappings: Any) -> None:
    records = [
        {"type": "glucose", "time": f"2026-03-01T{m // 60:02}:{m % 60:02}:00Z", "value": 100}
        for m in range(0, 1440, 5)
    ]
    found = mappings("cgm").read(cgm(*reversed(records)), GATEWAY)
    stamps = [o.stamp for o in found if isinstance(o, Reading)]
    assert len(set(stamps)) == len(stamps) == 288


def test_an_interrogation_is_one_observation_with_what_was_said(
    mappings: Any, placement: Placement
) -> None:
    sent = {
        "device": {"serial": "PM-1"},
        "interrogated": "2026-03-01T03:00:00Z",
        "battery": {"status": "RRT", "voltage": Decimal("2.60")},
        "leads": {"ra": {"threshold": Decimal("0.75"), "pulse-width": Decimal("0.40")}},
    }
    (resource,) = projected(mappings("implant"), sent, placement)
    found = {codes(part)[0]: part for part in resource["component"]}
    assert set(found) == {"721280", "721344", "722176", "722240"}
    assert str(found["721344"]["valueQuantity"]["value"]) == "2.60"
    assert found["721280"]["valueCodeableConcept"]["coding"][0]["code"] == "754115"
    assert "valueQuantity" not in resource


def withings(attrib: int, *measures: tuple[int, int, int], category: int = 1) -> dict[str, Any]:
    group = {
        "attrib": attrib,
        "date": 1772341200,
        "category": category,
        "deviceid": "d",
        "measures": [{"type": t, "value": v, "unit": u} for t, v, u in measures],
    }
    return {"status": 0, "body": {"timezone": "Europe/Moscow", "measuregrps": [group]}}


@pytest.mark.parametrize(
    ("value", "exponent", "stored"), [(65750, -3, "65.750"), (7, 1, "70"), (80, 0, "80")]
)
def test_a_power_of_ten_keeps_the_digits(
    mappings: Any, value: int, exponent: int, stored: str
) -> None:
    (reading,) = mappings("withings").read(withings(0, (1, value, exponent)), GATEWAY)
    assert isinstance(reading, Reading)
    assert str(reading.values[0].value) == stored


def test_a_scale_that_doubts_who_stood_on_it_is_not_believed(mappings: Any) -> None:
    (found,) = mappings("withings").read(withings(1, (1, 8000, -2)), GATEWAY)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.USER_AMBIGUOUS


def test_a_goal_of_an_account_is_no_weight(mappings: Any) -> None:
    found = mappings("withings").read(withings(0, (1, 60, 0), category=2), GATEWAY)
    assert found == (Ignored("goal"),)


def ward(*lines: str) -> dict[str, Any]:
    return {"csv": "\r\n".join(lines)}


def test_a_table_of_a_ward_is_read_with_its_own_commas(mappings: Any) -> None:
    sent = ward("Time;Device;Glucose;Glucose_unit", "2026-03-01 08:00;SN-1;5,0;mmol/L")
    (reading,) = mappings("staff-form").read(sent, GATEWAY)
    assert isinstance(reading, Reading)
    assert str(reading.values[0].value) == "5.0"
    assert reading.device == IdentifierToken(None, "SN-1")
    assert reading.effective == "2026-03-01T08:00:00+03:00"


def test_a_line_with_a_cell_too_few_is_held_back_alone(mappings: Any) -> None:
    sent = ward(
        "time,device,weight,pulse", "2026-03-01T08:00Z,SN-1,74.5", "2026-03-01T08:00Z,SN-1,74.5,60"
    )
    broken, weight, _ = mappings("staff-form").read(sent, GATEWAY)
    assert isinstance(broken, Fault)
    assert isinstance(weight, Reading) or weight.kind == "heart-rate"


@pytest.mark.parametrize("text", ["", "a;a\n1;2", 'time;x\n"never closed', ";\n1;2"])
def test_a_text_that_is_no_table_is_a_fault(mappings: Any, text: str) -> None:
    (found,) = mappings("staff-form").read({"csv": text}, GATEWAY)
    assert isinstance(found, Fault)


def test_what_a_patient_dictated_says_so(mappings: Any, placement: Placement) -> None:
    row = {"time": "2026-03-01T08:00:00Z", "device": "SN-1", "weight": 74}
    (resource,) = projected(mappings("staff-form"), {"rows": [row]}, placement)
    assert resource["method"]["coding"][0]["code"] == "manual-entry"


MSH = "MSH|^~\\&|Hub|Home|||20260301080512+0300||ORU^R01^ORU_R01|M1|P|2.6"
OBR = "OBR|1|A|B|182777000^monitoring of patient^SNOMED-CT|||20260301080000+0300"


def obx(code: str, sub: str, value: str, unit: str, *, kind: str = "NM", status: str = "R") -> str:
    return f"OBX|1|{kind}|{code}^X^MDC|{sub}|{value}|{unit}|||||{status}|||20260301080000+0300"


def message(*segments: str, end: str = "\r") -> dict[str, str]:
    return {"message": end.join([MSH, OBR, *segments])}


SYSTOLIC = obx("150021", "1.0.1.1", "120", "266016^MDC_DIM_MMHG^MDC")
DIASTOLIC = obx("150022", "1.0.1.2", "80", "mm[Hg]^^UCUM")


def hl7_readings(mappings: Any, sent: Any) -> list[Outcome]:
    return list(mappings("hl7v2").read(sent, GATEWAY))


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_segments_of_one_channel_are_one_pressure(mappings: Any, end: str) -> None:
    device = "OBX|1||528391^X^MDC|1|||||||X|||||||SN-1"
    (reading,) = hl7_readings(mappings, message(device, SYSTOLIC, DIASTOLIC, end=end))
    assert isinstance(reading, Reading)
    assert [(v.name, v.value, v.unit) for v in reading.values] == [
        ("systolic", Decimal(120), "mm[Hg]"),
        ("diastolic", Decimal(80), "mm[Hg]"),
    ]
    assert reading.device == IdentifierToken(None, "SN-1")
    assert reading.effective == "2026-03-01T08:00:00+03:00"


def test_a_result_that_was_not_obtained_is_absent(mappings: Any) -> None:
    missing = obx("150022", "1.0.1.2", "", "mm[Hg]^^UCUM", status="X")
    (reading,) = hl7_readings(mappings, message(SYSTOLIC, missing))
    assert isinstance(reading, Reading)
    assert [(v.value, v.absent) for v in reading.values] == [(Decimal(120), ""), (None, "unknown")]


def test_a_result_that_the_hub_doubts_is_questionable(mappings: Any, placement: Placement) -> None:
    doubted = "OBX|1|NM|150456^X^MDC|1.0.0.1|98|%^^UCUM||QUES~LACK|||R|||20260301080000+0300"
    (resource,) = projected(mappings("hl7v2"), message(doubted), placement)
    assert [c["coding"][0]["code"] for c in resource["interpretation"]] == ["questionable"]


def test_two_channels_are_two_readings(mappings: Any) -> None:
    later = SYSTOLIC.replace("1.0.1.1", "1.0.2.1").replace("0300080000", "030009")
    found = hl7_readings(mappings, message(SYSTOLIC, DIASTOLIC, later))
    assert len(found) == 2


def test_a_unit_that_nobody_knows_is_not_guessed(mappings: Any) -> None:
    sent = message(obx("188736", "1.0.0.1", "80", "999^MDC_DIM_STONE^MDC"))
    (found,) = hl7_readings(mappings, sent)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.INVALID_VALUE


@pytest.mark.parametrize("status", ["C", "D", "W"])
def test_a_result_that_revokes_another_is_for_a_person(mappings: Any, status: str) -> None:
    sent = message(SYSTOLIC, obx("150022", "1.0.1.2", "80", "mm[Hg]^^UCUM", status=status))
    (found,) = hl7_readings(mappings, sent)
    assert isinstance(found, Fault)


def test_a_channel_that_contradicts_itself_is_a_fault(mappings: Any) -> None:
    (found,) = hl7_readings(mappings, message(SYSTOLIC, SYSTOLIC.replace("|120|", "|140|")))
    assert isinstance(found, Fault)


def test_the_patient_of_the_message_is_named_with_the_authority(mappings: Any) -> None:
    pid = "PID|||7712^^^Fund&1.2.643.100.3&ISO^NI||Doe^John"
    found = hl7_readings(mappings, message(pid, SYSTOLIC, DIASTOLIC))
    assert isinstance(found[0], Reading)
    assert found[0].patient == IdentifierToken("urn:oid:1.2.643.100.3", "7712")


@given(text=st.text(alphabet="|^~\\&\r0123456789.OBXRPID", max_size=120))
def test_any_message_is_decided(mappings: Any, text: str) -> None:
    assert hl7_readings(mappings, {"message": MSH + "\r" + text})
    assert hl7_readings(mappings, {"message": "MSH" + text})


def test_a_fault_holds_nothing_of_the_message(mappings: Any) -> None:
    sent = message(SYSTOLIC.replace("20260301080000+0300", "Ivanov"))
    (found,) = hl7_readings(mappings, sent)
    assert isinstance(found, Fault)
    assert "Ivanov" not in found.detail
