"""Principals' contexts on a store, as the server makes them."""

import itertools
from datetime import UTC, datetime
from typing import Any

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security import scope
from fhir_server.core.security.principal import Principal
from fhir_server.interactions.authorize import Authorizer
from fhir_server.interactions.context import Context

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
DEFAULTS = {"TREAT": "permit", "HPAYMT": "deny"}


class NoRules:
    """Everything is a resource, nothing is checked."""

    def __init__(self, resource_types) -> None:
        self.resource_types = frozenset(resource_types)

    def check(self, _resource):
        return ()


class Doors:
    """A process that serves a store: `ctx` is what a principal is given by it."""

    def __init__(self, driver, indexer, store=None) -> None:
        store = store or driver.store
        numbers = itertools.count(1)
        self.driver = driver
        self.base = Context(
            store,
            driver.parameters,
            NoRules(driver.parameters.resource_types),
            driver.clock,
            lambda: f"new-{next(numbers)}",
            base_url="http://a.example/fhir",
            index=indexer,
            compartments=driver.definitions.compartments,
            outbox=store.outbox,
        )
        self.authorizer = Authorizer(self.base, DEFAULTS)

    def ctx(self, principal: Principal, base: Context | None = None) -> Context:
        return self.driver.run(self.authorizer.authorize(base or self.base, principal))


def principal(kind: Any, scopes: str, **more: Any) -> Principal:
    for name in ("patient", "fhir_user"):
        if name in more:
            more[name] = ResourceKey(*more[name].split("/"))
    return Principal(kind, scopes=scope.parse_all(scopes), **more)


PATIENT = principal("patient", "patient/*.cruds", subject="a", patient="Patient/a")
DOCTOR = principal("user", "user/*.cruds", subject="dr", fhir_user="Practitioner/dr")


def observation(name: str, patient: str | None, **more: Any) -> dict[str, Any]:
    found = {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [{"system": "urn:s", "code": "bp"}]},
        **more,
    }
    if patient is not None:
        found["subject"] = {"reference": f"Patient/{patient}"}
    return found


def team(name: str, patient: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": name,
        "status": "active",
        "subject": {"reference": f"Patient/{patient}"},
        "participant": [{"member": {"reference": "Practitioner/dr"}}],
        **more,
    }


def consent(name: str, patient: str, said: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": name,
        "status": "active",
        "patient": {"reference": f"Patient/{patient}"},
        "dateTime": "2024-01-01",
        "provision": {"type": said},
        **more,
    }
