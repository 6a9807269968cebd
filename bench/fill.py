"""Fills a store with Observations of the kind that cuffs and glucometers make."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from fhir_server.app import Components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import next_version
from fhir_server.store.protocol import Decision, Transaction

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
START = datetime(2024, 1, 1, 6, tzinfo=UTC)


def patient_id(number: int) -> str:
    return f"patient-{number}"


def observation(number: int) -> Resource:
    """The `number`th reading: patients take turns, as they do at the morning peak."""
    patients = 50 if number < 10_000 else 5_000
    patient = number % patients
    taken = START + timedelta(minutes=7 * (number // patients), seconds=patient % 60)
    quantity = {"system": UCUM, "code": "mm[Hg]", "unit": "mmHg"}
    return {
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]},
        "identifier": [{"system": "https://pmp.example/fhir/bench", "value": f"r-{number}"}],
        "status": "final",
        "category": [
            {
                "coding": [
                    {
                        "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                        "code": "vital-signs",
                    }
                ]
            }
        ],
        "code": {"coding": [{"system": LOINC, "code": "85354-9", "display": "Blood pressure"}]},
        "subject": {"reference": f"Patient/{patient_id(patient)}"},
        "effectiveDateTime": taken.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "device": {"reference": f"Device/cuff-{patient}"},
        "component": [
            {
                "code": {"coding": [{"system": LOINC, "code": code}]},
                "valueQuantity": {"value": value, **quantity},
            }
            for code, value in (("8480-6", 110 + number % 40), ("8462-4", 70 + number % 20))
        ],
    }


def _chunks(first: int, last: int, size: int) -> Iterator[range]:
    for at in range(first, last, size):
        yield range(at, min(at + size, last))


def fill(components: Components, first: int, last: int) -> None:
    """Store the readings `first` up to `last`, 500 a decision."""

    def decide(numbers: range) -> Decision[None]:
        def put_all(tx: Transaction) -> None:
            for number in numbers:
                key = ResourceKey("Observation", components.context.new_id())
                tx.put(*next_version(None, key, observation(number), tx.now))

        return put_all

    async def go() -> None:
        for numbers in _chunks(first, last, 500):
            await components.store.commit(decide(numbers))

    asyncio.run(go())
