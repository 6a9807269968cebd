"""What is wrong with a resource is found, with its path and the code FHIR has for it."""

from decimal import Decimal

import pytest

from tests.unit.validation.faultless import DEVICE, GONE, OBSERVATION, PATIENT, changed


@pytest.mark.parametrize(
    ("path", "value", "code", "expression"),
    [
        (["status"], GONE, "required", "Observation.status"),
        (["status"], "done", "code-invalid", "Observation.status"),
        (["status"], 1, "structure", "Observation.status"),
        (["status"], ["final"], "structure", "Observation.status"),
        (["status"], None, "structure", "Observation.status"),
        (["code"], GONE, "required", "Observation.code"),
        (["code"], {}, "invariant", "Observation.code"),
        (["code"], {"id": "only"}, "invariant", "Observation.code"),
        (["code"], "85354-9", "structure", "Observation.code"),
        (["code", "coding"], {"code": "x"}, "structure", "Observation.code.coding"),
        (["code", "coding"], [], "structure", "Observation.code.coding"),
        (["code", "coding", 0], None, "structure", "Observation.code.coding[0]"),
        (["code", "coding", 0, "code"], " x", "value", "Observation.code.coding[0].code"),
        (["code", "coding", 0, "system"], "a b", "value", "Observation.code.coding[0].system"),
        (["code", "coding", 0, "display"], "", "value", "Observation.code.coding[0].display"),
        (["code", "text"], "a\x00b", "value", "Observation.code.text"),
        (["colour"], "red", "structure", "Observation.colour"),
        (["component", 0, "kode"], {}, "structure", "Observation.component[0].kode"),
        (["component"], {}, "structure", "Observation.component"),
        (["component", 0, "code"], GONE, "required", "Observation.component[0].code"),
        (
            ["component", 0, "valueQuantity", "value"],
            "120",
            "structure",
            "Observation.component[0].value.value",
        ),
        (
            ["component", 0, "valueQuantity", "system"],
            GONE,
            "invariant",
            "Observation.component[0].value",
        ),
        (
            ["component", 0, "valueQuantity", "comparator"],
            "~",
            "code-invalid",
            "Observation.component[0].value.comparator",
        ),
        (["component", 0, "valueString"], "x", "structure", "Observation.component[0].value"),
        (["valueInteger"], Decimal("1.0"), "structure", "Observation.value"),
        (["valueInteger"], 2**31, "value", "Observation.value"),
        (["valueBoolean"], "true", "structure", "Observation.value"),
        (["valueTime"], "24:00:00", "value", "Observation.value"),
        (["valueDecimal"], 1, "structure", "Observation.valueDecimal"),
        (["effectiveDateTime"], "2024-02-30", "value", "Observation.effective"),
        (["effectiveDateTime"], "2023-02-29", "value", "Observation.effective"),
        (["effectiveDateTime"], "2024-05-02T10:12:00", "value", "Observation.effective"),
        (["effectiveDateTime"], "2024-05-02T10:12+03:00", "value", "Observation.effective"),
        (["effectiveDateTime"], "02.05.2024", "value", "Observation.effective"),
        (["effectiveDateTime"], "2024-05-02\n", "value", "Observation.effective"),
        (["effectiveDateTime"], 2024, "structure", "Observation.effective"),
        (["effectiveInstant"], "2024-05-02T10:12:00Z", "structure", "Observation.effective"),
        (["issued"], "2024-05-02", "value", "Observation.issued"),
        (["subject", "reference"], "Medication/1", "value", "Observation.subject.reference"),
        (["subject", "reference"], "Patient", "value", "Observation.subject.reference"),
        (["subject", "reference"], "Patient/ä", "value", "Observation.subject.reference"),
        (["subject", "reference"], "#p", "invariant", "Observation.subject.reference"),
        (["subject", "type"], "Medication", "value", "Observation.subject.type"),
        (["focus"], [{"reference": "Nothing/1"}], "value", "Observation.focus[0].reference"),
        (["dataAbsentReason"], {"text": "x"}, None, None),
        (
            ["referenceRange"],
            [{"type": {"text": "x"}}],
            "invariant",
            "Observation.referenceRange[0]",
        ),
        (
            ["referenceRange"],
            [{"low": {"value": 1, "comparator": "<"}}],
            "invariant",
            "Observation.referenceRange[0].low",
        ),
        (["meta"], {"lastUpdated": "2024"}, "value", "Observation.meta.lastUpdated"),
        (["meta"], {"profile": "x"}, "structure", "Observation.meta.profile"),
        (["id"], "a_b", "value", "Observation.id"),
        (["id"], "x" * 65, "value", "Observation.id"),
        (["extension"], [{"url": "u:x"}], "invariant", "Observation.extension[0]"),
        (["extension"], [{"valueString": "x"}], "required", "Observation.extension[0].url"),
        (
            ["extension"],
            [{"url": "u:x", "valueString": "x", "extension": [{"url": "u:y", "valueCode": "z"}]}],
            "invariant",
            "Observation.extension[0]",
        ),
        (
            ["extension"],
            [{"url": "u:x", "valueString": "x", "valueCode": "y"}],
            "structure",
            "Observation.extension[0].value",
        ),
        (
            ["bodySite"],
            {"coding": [{"userSelected": 1}]},
            "structure",
            "Observation.bodySite.coding[0].userSelected",
        ),
    ],
)
def test_a_fault_of_an_observation_is_named(validator, path, value, code, expression):
    issues = validator.check(changed(OBSERVATION, path, value))

    found = [(issue.code, issue.expression) for issue in issues]
    assert found == ([(code, expression)] if code else [])


@pytest.mark.parametrize(
    ("resource", "path", "value", "code", "expression"),
    [
        (PATIENT, ["birthDate"], "1980-02-30", "value", "Patient.birthDate"),
        (PATIENT, ["birthDate"], "0000", "value", "Patient.birthDate"),
        (PATIENT, ["birthDate"], "1980-2-1", "value", "Patient.birthDate"),
        (PATIENT, ["birthDate"], "1980-02-29T00:00:00Z", "value", "Patient.birthDate"),
        (PATIENT, ["_birthDate"], {}, "invariant", "Patient.birthDate"),
        (PATIENT, ["_birthDate"], [], "structure", "Patient.birthDate"),
        (PATIENT, ["_birthDate"], {"value": 1}, "structure", "Patient.birthDate.value"),
        (PATIENT, ["gender"], "M", "code-invalid", "Patient.gender"),
        (PATIENT, ["name"], {"family": "x"}, "structure", "Patient.name"),
        (PATIENT, ["name", 0, "family"], ["x"], "structure", "Patient.name[0].family"),
        (PATIENT, ["name", 0, "given"], "y", "structure", "Patient.name[0].given"),
        (PATIENT, ["name", 0, "given"], ["y", 1], "structure", "Patient.name[0].given[1]"),
        (PATIENT, ["name", 0, "given"], ["y", None], "structure", "Patient.name[0].given[1]"),
        (PATIENT, ["name", 0, "_given"], {}, "structure", "Patient.name[0].given"),
        (PATIENT, ["name", 0, "_family"], None, "structure", "Patient.name[0].family"),
        (PATIENT, ["_name"], [{}], "structure", "Patient._name"),
        (
            PATIENT,
            ["name", 0, "period"],
            {"start": "2020", "end": "2019-12-31"},
            "invariant",
            "Patient.name[0].period",
        ),
        (PATIENT, ["active"], "true", "structure", "Patient.active"),
        (PATIENT, ["active"], 1, "structure", "Patient.active"),
        (PATIENT, ["telecom"], [{"value": "1"}], "invariant", "Patient.telecom[0]"),
        (
            PATIENT,
            ["telecom"],
            [{"system": "phone", "rank": 0}],
            "value",
            "Patient.telecom[0].rank",
        ),
        (PATIENT, ["contact"], [{"gender": "male"}], "invariant", "Patient.contact[0]"),
        (PATIENT, ["link"], [{"type": "refer"}], "required", "Patient.link[0].other"),
        (PATIENT, ["photo"], [{"data": "QUI="}], "invariant", "Patient.photo[0]"),
        (
            PATIENT,
            ["photo"],
            [{"contentType": "image/png", "data": "QUI"}],
            "value",
            "Patient.photo[0].data",
        ),
        (PATIENT, ["text"], {"status": "generated"}, "required", "Patient.text.div"),
        (
            PATIENT,
            ["text"],
            {"status": "generated", "div": "hello"},
            "value",
            "Patient.text.div",
        ),
        (
            PATIENT,
            ["managingOrganization"],
            {"reference": "Patient/1"},
            "value",
            "Patient.managingOrganization.reference",
        ),
        (DEVICE, ["status"], "final", "code-invalid", "Device.status"),
        (DEVICE, ["deviceName"], [{"name": "x"}], "required", "Device.deviceName[0].type"),
        (DEVICE, ["patient"], {"reference": "Device/1"}, "value", "Device.patient.reference"),
        (DEVICE, ["udiCarrier"], [], "structure", "Device.udiCarrier"),
        (DEVICE, ["version"], [{"value": 1}], "structure", "Device.version[0].value"),
        (DEVICE, ["expirationDate"], "2030-13", "value", "Device.expirationDate"),
    ],
)
def test_a_fault_is_named(validator, resource, path, value, code, expression):
    issues = validator.check(changed(resource, path, value))

    assert [(issue.code, issue.expression) for issue in issues] == [(code, expression)]


def test_every_fault_is_told_at_once(validator):
    issues = validator.check(
        {
            "resourceType": "Observation",
            "effectiveDateTime": "yesterday",
            "valueQuantity": {"value": "1"},
            "unknown": 1,
        }
    )

    assert {(issue.code, issue.expression) for issue in issues} == {
        ("required", "Observation.status"),
        ("required", "Observation.code"),
        ("value", "Observation.effective"),
        ("structure", "Observation.value.value"),
        ("structure", "Observation.unknown"),
    }


@pytest.mark.parametrize(
    "resource", [{}, {"resourceType": "Pacient"}, {"resourceType": 1}, {"resourceType": "Resource"}]
)
def test_an_unknown_resource_type_is_a_fault(validator, resource):
    assert [issue.code for issue in validator.check(resource)] == ["structure"]


def test_a_value_beside_the_reason_of_its_absence_breaks_obs_6(validator):
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "x"},
        "valueString": "x",
        "dataAbsentReason": {"text": "x"},
    }

    (issue,) = validator.check(observation)

    assert (issue.code, issue.expression) == ("invariant", "Observation")
    assert "obs-6" in issue.diagnostics


def test_a_value_beside_a_component_of_the_same_code_breaks_obs_7(validator):
    same = changed(OBSERVATION, ["valueString"], "x")
    same["component"][0]["code"] = same["code"]

    (issue,) = validator.check(same)

    assert "obs-7" in issue.diagnostics
    assert validator.check(changed(OBSERVATION, ["valueString"], "x")) == ()


def test_a_period_at_the_top_must_be_in_order(validator):
    observation = changed(OBSERVATION, ["effectiveDateTime"], GONE)
    observation["effectivePeriod"] = {
        "start": "2024-05-01T00:00:00+03:00",
        "end": "2024-05-01T00:00:00+04:00",
    }

    assert [issue.expression for issue in validator.check(observation)] == ["Observation.effective"]


SECRET = "Zaphod-Beeblebrox"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["status"], SECRET),
        (["birthDate"], SECRET),
        (["gender"], SECRET),
        (["name", 0, "given"], SECRET),
        (["managingOrganization"], {"reference": f"Patient/{SECRET}"}),
        (["managingOrganization"], {"reference": SECRET}),
        (["active"], SECRET),
        ([f"{SECRET} is no name"], 1),
        (["contained"], [{"resourceType": SECRET}]),
    ],
)
def test_no_value_of_the_patient_is_in_a_message(validator, path, value):
    issues = validator.check(changed(PATIENT, path, value))

    assert issues
    assert SECRET not in repr(issues)
