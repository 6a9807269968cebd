"""One thing wrong with what the server makes, and the one place and rule that is told."""

import copy

import pytest

from fhir_server.core.validation.profiled import check_claims
from tests.unit.validation.project_outputs import DEFINITIONS, all_outputs

OUTPUTS = all_outputs()
PRESSURE = "iot-hub/blood-pressure#0"
PULSE = "iot-hub/heart-rate#0"
GLUCOSE = "bluetooth/glucose-moles#0"
SENSOR = "cgm/stream#2"
FETUS = "fetal-monitor/single#0"
TRACE = "fetal-monitor/trace#0"
SUMMARY = "fetal-monitor/trace#1"
STEPS = "bracelet/day#0"
IMPLANT = "implant/pacemaker#0"
KIT = "device-kit/hypertension"
ALERT = "above-limit goes on"
NOTICE = "above-limit physician"
GONE = object()
SYSTOLIC = {"system": "http://loinc.org", "code": "8480-6"}
WORDS = {"coding": [{"system": "urn:words", "code": "x"}]}

CASES = [
    (PRESSURE, ("device",), GONE, "Observation.device", "Observation.device min"),
    (
        PRESSURE,
        ("identifier", 0, "system"),
        "urn:x",
        "Observation.identifier",
        "identifier:reading",
    ),
    (PRESSURE, ("component",), GONE, "Observation.component", "Observation.component min"),
    (
        PRESSURE,
        ("component", 0, "code", "coding", 0),
        {**SYSTOLIC, "code": "8867-4"},
        "Observation.component",
        "component:SystolicBP min",
    ),
    (
        PRESSURE,
        ("subject",),
        {"reference": "Group/1"},
        "Observation.subject.reference",
        "targetProfile",
    ),
    (PULSE, ("device",), GONE, "Observation.device", "Observation.device min"),
    (PULSE, ("valueQuantity", "code"), "Hz", "Observation.value.code", "fixed"),
    (GLUCOSE, ("valueQuantity", "code"), "mg/dL", "Observation", "pmp-glucose-1"),
    (GLUCOSE, ("valueQuantity", "code"), "%", "Observation.value", "glucose-unit"),
    (GLUCOSE, ("valueQuantity", "unit"), GONE, "Observation.value.unit", "unit min"),
    (
        GLUCOSE,
        ("category", 0, "coding", 0, "code"),
        "vital-signs",
        "Observation.category",
        "laboratory min",
    ),
    (GLUCOSE, ("code",), {"text": "Glucose"}, "Observation.code", "capillary-glucose-code"),
    (
        SENSOR,
        ("code", "coding", 0, "code"),
        "14743-9",
        "Observation.code",
        "continuous-glucose-code",
    ),
    (FETUS, ("focus",), GONE, "Observation.focus", "focus min"),
    (FETUS, ("code", "coding", 0, "code"), "8867-4", "Observation.code", "fetal-heart-rate-code"),
    (TRACE, ("focus",), GONE, "Observation", "pmp-ctg-1"),
    (TRACE, ("valueSampledData", "data"), GONE, "Observation.value.data", "data min"),
    (TRACE, ("valueSampledData", "dimensions"), 2, "Observation.value.dimensions", "fixed"),
    (
        SUMMARY,
        ("component", 0, "valueQuantity", "code"),
        "Hz",
        "Observation.component[0].value.code",
        "fixed",
    ),
    (STEPS, ("meta", "tag"), GONE, "Observation.meta.tag", "meta.tag min"),
    (STEPS, ("meta", "tag", 0, "code"), "medical", "Observation.meta.tag", "tag:auxiliary min"),
    (STEPS, ("valueQuantity",), GONE, "Observation", "pmp-reading-1"),
    (IMPLANT, ("component",), GONE, "Observation.component", "component min"),
    (IMPLANT, ("valueString",), "fine", "Observation.value", "max"),
    (f"{KIT} device 0", ("patient",), {"reference": "Patient/1"}, "Device.patient", "patient max"),
    (f"{KIT} device 0", ("identifier",), GONE, "Device.identifier", "identifier min"),
    (f"{KIT} assignment 0", ("timingPeriod",), GONE, "DeviceUseStatement.timing", "timing min"),
    (
        f"{KIT} assignment 0",
        ("timingPeriod", "start"),
        GONE,
        "DeviceUseStatement.timing.start",
        "start min",
    ),
    (
        f"{KIT} assignment 0",
        ("subject",),
        {"reference": "Group/1"},
        "DeviceUseStatement.subject.reference",
        "targetProfile",
    ),
    (f"{KIT} plan", ("period",), GONE, "CarePlan.period", "period min"),
    (
        f"{KIT} plan",
        ("activity", 0, "detail", "code"),
        GONE,
        "CarePlan.activity[0].detail.code",
        "code min",
    ),
    (f"{KIT} goal 0", ("target", 0, "detailRange"), GONE, "Goal.target[0].detail", "detail min"),
    (
        f"{KIT} goal 0",
        ("target", 0, "measure"),
        {"text": "pressure"},
        "Goal.target[0].measure.coding",
        "coding min",
    ),
    (
        f"{KIT} patient",
        ("identifier", 0, "value"),
        GONE,
        "Patient.identifier[0].value",
        "value min",
    ),
    (ALERT, ("identifier",), GONE, "DetectedIssue.identifier", "identifier min"),
    (ALERT, ("status",), "amended", "DetectedIssue.status", "alert-status"),
    (ALERT, ("identifiedPeriod", "end"), "2026-01-01T00:00:00Z", "DetectedIssue", "pmp-alert-1"),
    (
        ALERT,
        ("implicated",),
        [{"reference": "Patient/1"}],
        "DetectedIssue.implicated[0].reference",
        "targetProfile",
    ),
    (NOTICE, ("about",), GONE, "Communication.about", "about min"),
    (NOTICE, ("recipient",), GONE, "Communication.recipient", "recipient min"),
]
ODD_NUMBERS = [
    (0, "112-233-445 96", "pmp-snils-2"),
    (0, "1122334459", "pmp-snils-1"),
    (0, "112-233-445 95", None),
    (0, "001-001-998 00", None),
]


def changed(name, path, value):
    resource = copy.deepcopy(OUTPUTS[name])
    *steps, last = path
    holder = resource
    for step in steps:
        holder = holder[step]
    if value is GONE:
        del holder[last]
    else:
        holder[last] = value
    return resource


def told(resource, severity):
    found = check_claims(lambda _: DEFINITIONS.profiles, resource, "refuse")
    return [(i.expression, i.source) for i in found if i.severity == severity]


@pytest.mark.parametrize(("name", "path", "value", "place", "rule"), CASES)
def test_a_fault_is_told_with_its_place_and_rule(name, path, value, place, rule):
    assert told(OUTPUTS[name], "error") == []
    found = told(changed(name, path, value), "error")
    assert any(at == place and rule in source for at, source in found), found


def test_a_code_of_an_alert_that_is_not_ours_is_a_warning():
    alert = changed(ALERT, ("code",), {**WORDS, "text": "x"})
    assert told(alert, "error") == []
    assert [at for at, _ in told(alert, "warning")] == ["DetectedIssue.code"]


@pytest.mark.parametrize(("number", "value", "rule"), ODD_NUMBERS)
def test_a_number_whose_digits_do_not_check_is_a_warning(number, value, rule):
    patient = changed(f"{KIT} patient", ("identifier", number, "value"), value)
    assert told(patient, "error") == []
    assert [source.rpartition("#")[2] for _, source in told(patient, "warning")] == (
        [rule] if rule else []
    )


@pytest.mark.parametrize(
    ("value", "rule"),
    [("4561261212345467", None), ("4561261212345468", "pmp-policy-2"), ("456", "pmp-policy-1")],
)
def test_a_policy_number_is_checked_by_its_last_digit(value, rule):
    policy = {"system": "https://fhir.ru/ig/core/systems/oms", "value": value}
    patient = changed(f"{KIT} patient", ("identifier", 1), policy)
    assert told(patient, "error") == []
    assert [source.rpartition("#")[2] for _, source in told(patient, "warning")] == (
        [rule] if rule else []
    )
