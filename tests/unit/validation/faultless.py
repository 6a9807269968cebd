"""Resources without a fault, and how to make one in them."""

import copy
from decimal import Decimal

OBSERVATION = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
    "subject": {"reference": "Patient/p"},
    "effectiveDateTime": "2024-05-02T10:12:00+03:00",
    "device": {"reference": "Device/d"},
    "component": [
        {
            "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
            "valueQuantity": {
                "value": Decimal("120.5"),
                "system": "http://unitsofmeasure.org",
                "code": "mm[Hg]",
            },
        }
    ],
}


PATIENT = {
    "resourceType": "Patient",
    "name": [{"family": "x", "given": ["y"]}],
    "gender": "male",
    "birthDate": "1980-02-29",
}


DEVICE = {"resourceType": "Device", "status": "active", "serialNumber": "1"}


GONE = object()


def changed(resource, path, value):
    result = copy.deepcopy(resource)
    *parents, last = path
    node = result
    for step in parents:
        node = node[step]
    if value is GONE:
        del node[last]
    else:
        node[last] = value
    return result
