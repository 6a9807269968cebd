"""Limits for every patient of a population, so that each reading is judged."""

import requests

from bench.loads import Scene
from bench.readings import DIASTOLIC, LOINC, PULSE, SYSTOLIC, UCUM
from fhir_server.core.resource_json import Resource

_AT_ONCE = 500
_LIMITS = ((SYSTOLIC, "mm[Hg]", 60, 230), (DIASTOLIC, "mm[Hg]", 30, 150), (PULSE, "/min", 30, 200))


def set_limits(scene: Scene) -> None:
    """A Goal with three limits for each patient; most readings are within them."""
    goals = [_goal(scene.names.patient(number)) for number in range(scene.population.patients)]
    for first in range(0, len(goals), _AT_ONCE):
        entry = [
            {"resource": goal, "request": {"method": "PUT", "url": f"Goal/{goal['id']}"}}
            for goal in goals[first : first + _AT_ONCE]
        ]
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
        requests.post(scene.address.url, json=bundle, timeout=120).raise_for_status()


def _goal(patient: str) -> Resource:
    return {
        "resourceType": "Goal",
        "id": f"limits-{patient}",
        "lifecycleStatus": "active",
        "description": {"text": "Limits"},
        "subject": {"reference": f"Patient/{patient}"},
        "target": [
            {
                "measure": {"coding": [{"system": LOINC, "code": code}]},
                "detailRange": {
                    "low": {"value": low, "system": UCUM, "code": unit},
                    "high": {"value": high, "system": UCUM, "code": unit},
                },
            }
            for code, unit, low, high in _LIMITS
        ],
    }
