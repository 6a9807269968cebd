"""What is stored and sent: patients with devices and their readings, each named by a number.

The same numbers give the same resources, so that a store can be filled further, two stores
hold the same, and a load knows what it will find. Each patient has as many readings in a
large population as in a small one: what a search of one patient costs then depends on the
size of the store alone.
"""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fhir_server.core.resource_json import Resource

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
OWN = "https://pmp.example/fhir/bench"
PRESSURE, WEIGHT, GLUCOSE, PULSE, IMPRESSION = "85354-9", "29463-7", "2339-0", "8867-4", "8601-7"
SYSTOLIC, DIASTOLIC = "8480-6", "8462-4"

START = datetime(2024, 1, 1, 6, tzinfo=UTC)
BETWEEN = timedelta(hours=6)
READINGS_OF_A_PATIENT = 200
GATEWAYS = 500
FAMILIES = 250

# The kinds of a patient's readings, in turns: half of them are blood pressures.
_KINDS = (PRESSURE, WEIGHT, PRESSURE, GLUCOSE, PRESSURE, PULSE, PRESSURE, GLUCOSE)
_IMPRESSION_EVERY = 50
_RARE = 100
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_UNITS = {WEIGHT: ("kg", "kg"), GLUCOSE: ("mg/dL", "mg/dL"), PULSE: ("/min", "beats/minute")}
_NAMES = {
    PRESSURE: "Blood pressure panel",
    WEIGHT: "Body weight",
    GLUCOSE: "Glucose [Mass/volume] in Blood",
    PULSE: "Heart rate",
    IMPRESSION: "EKG impression",
}

HIGH_GLUCOSE = 400
HIGH_SYSTOLIC = 200
RARE_IMPRESSION = "Atrial fibrillation"


class Population(NamedTuple):
    """So many readings, of so many patients; they take turns."""

    readings: int

    @property
    def patients(self) -> int:
        return max(50, self.readings // READINGS_OF_A_PATIENT)


class Names(NamedTuple):
    """How the resources of a population are called in a server, by number."""

    patient: Callable[[int], str]
    device: Callable[[int], str]
    reading: Callable[[int], str]


OWN_NAMES = Names("patient-{}".format, "cuff-{}".format, "o-{:010d}".format)


def family(number: int) -> str:
    return f"Family{number % FAMILIES:03d}"


def patient(number: int) -> Resource:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": OWN, "value": f"patient-{number}"}],
        "name": [{"family": family(number), "given": [f"Given{number % 97}"]}],
        "gender": ("female", "male")[number % 2],
        "birthDate": f"{1930 + number % 60}-{1 + number % 12:02d}-{1 + number % 28:02d}",
    }


def device(number: int, names: Names = OWN_NAMES) -> Resource:
    return {
        "resourceType": "Device",
        "identifier": [{"system": OWN, "value": f"cuff-{number}"}],
        "status": "active",
        "patient": {"reference": f"Patient/{names.patient(number)}"},
    }


def assignment(number: int, names: Names = OWN_NAMES) -> Resource:
    return {
        "resourceType": "DeviceUseStatement",
        "status": "active",
        "subject": {"reference": f"Patient/{names.patient(number)}"},
        "device": {"reference": f"Device/{names.device(number)}"},
        "timingPeriod": {"start": "2020-01-01"},
    }


def taken(number: int, population: Population) -> datetime:
    """When a reading was taken: each patient a few seconds after the one before."""
    turn, patient_number = divmod(number, population.patients)
    return START + BETWEEN * turn + timedelta(seconds=patient_number % 3_600)


def observation(number: int, population: Population, names: Names = OWN_NAMES) -> Resource:
    """The `number`th reading of a population."""
    turn, patient_number = divmod(number, population.patients)
    kind = _KINDS[turn % len(_KINDS)]
    if turn % _IMPRESSION_EVERY == _IMPRESSION_EVERY - 1:
        kind = IMPRESSION
    made: Resource = {
        "resourceType": "Observation",
        "meta": {"source": f"{OWN}/gateway/{number % GATEWAYS}"},
        "identifier": [{"system": OWN, "value": f"r-{number}"}],
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": kind, "display": _NAMES[kind]}]},
        "subject": {"reference": f"Patient/{names.patient(patient_number)}"},
        "effectiveDateTime": taken(number, population).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": {"reference": f"Device/{names.device(patient_number)}"},
    }
    chance = number * 7_919 % 10_007
    is_rare = chance % (10 if kind == IMPRESSION else _RARE) == 0
    if kind == PRESSURE:
        systolic = HIGH_SYSTOLIC if is_rare else 100 + chance % 60
        made["meta"]["profile"] = ["http://hl7.org/fhir/StructureDefinition/bp"]
        made["component"] = [
            _component(SYSTOLIC, systolic),
            _component(DIASTOLIC, 60 + chance % 40),
        ]
    elif kind == IMPRESSION:
        made["valueString"] = f"{RARE_IMPRESSION if is_rare else 'Sinus rhythm'} {chance % 100}"
    else:
        code, unit = _UNITS[kind]
        value = HIGH_GLUCOSE if kind == GLUCOSE and is_rare else 50 + chance % 100
        made["valueQuantity"] = {"value": value, "unit": unit, "system": UCUM, "code": code}
    return made


def _component(code: str, value: int) -> Resource:
    return {
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "valueQuantity": {"value": value, "unit": "mmHg", "system": UCUM, "code": "mm[Hg]"},
    }


def new_observation(number: int, population: Population, names: Names = OWN_NAMES) -> Resource:
    """A blood pressure that is not in the population, for a load that stores."""
    patient_number = number % population.patients
    made = observation(patient_number, population, names)
    made["identifier"] = [{"system": OWN, "value": f"n-{number}"}]
    when = START + timedelta(days=365, seconds=number)
    made["effectiveDateTime"] = when.strftime("%Y-%m-%dT%H:%M:%SZ")
    return made


def payloads(population: Population, numbers: Iterator[int]) -> Iterator[bytes]:
    """What a hub sends: blood pressures, patients taking turns."""
    for number in numbers:
        when = START + timedelta(days=365, seconds=number)
        values = {"systolic": 110 + number % 40, "diastolic": 70 + number % 20}
        yield json.dumps(
            {
                "type": "Blood Pressure",
                "time": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "device": f"cuff-{number % population.patients}",
                "values": values,
            }
        ).encode()
