"""Resources to be searched, put together of little."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from fhir_server.core.quantity import UCUM

Find = Callable[..., list[str]]


LOINC = "http://loinc.org"


def patient(resource_id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": resource_id, **elements}


def observation(resource_id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": resource_id, **elements}


def coded(*codes: tuple[str, str], text: str = "") -> dict[str, Any]:
    coding = [{k: v for k, v in (("system", s), ("code", c)) if v} for s, c in codes]
    concept: dict[str, Any] = {"coding": coding} if coding else {}
    return {**concept, "text": text} if text else concept


def amount(value: str, code: str = "", unit: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"value": Decimal(value)}
    if code:
        found |= {"system": UCUM, "code": code}
    return {**found, "unit": unit} if unit else found
