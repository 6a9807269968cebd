"""Fills a store with a population, straight through its own door for moved stores.

What stands at which place of the commit order follows from the place alone, so a fill that
was interrupted goes on where the store ends.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from bench.readings import OWN_NAMES, Population, assignment, device, observation, patient
from fhir_server.app import open_components
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, next_version
from fhir_server.garbage import tune_garbage_collection
from fhir_server.settings import Settings

_FILLED_AT = datetime(2024, 6, 1, tzinfo=UTC)
_BATCH = 1_000


def size(population: Population) -> int:
    """Versions in all: a patient, a device and its assignment each, and the readings."""
    return 3 * population.patients + population.readings


def instant(sequence: int) -> datetime:
    """When the version at this place was stored."""
    return _FILLED_AT + timedelta(milliseconds=sequence)


def version(sequence: int, population: Population) -> Version:
    """What stands at this place of the commit order, counting from 1."""
    resource_id, resource = _resource(sequence - 1, population)
    key = ResourceKey(resource["resourceType"], resource_id)
    made, _ = next_version(None, key, resource, instant(sequence))
    return made._replace(sequence=sequence)


def _resource(place: int, population: Population) -> tuple[str, Resource]:
    kind, number = divmod(place, population.patients)
    if kind == 0:
        return OWN_NAMES.patient(number), patient(number)
    if kind == 1:
        return OWN_NAMES.device(number), device(number)
    if kind == 2:
        return f"use-{number}", assignment(number)
    number = place - 3 * population.patients
    return OWN_NAMES.reading(number), observation(number, population)


def fill(store: str, population: Population, report: Callable[[int], None]) -> None:
    """Bring the store of this URL to the whole population; `report` is told how far it is."""

    async def go() -> None:
        opened = open_components(Settings(store=store)).store
        tune_garbage_collection()
        try:
            end = size(population)
            reached = (await opened.extent()).newest
            while reached < end:
                report(reached)
                last = min(reached + _BATCH, end)
                batch = [version(n, population) for n in range(reached + 1, last + 1)]
                await opened.restore(batch, end)
                reached = last
            report(reached)
        finally:
            await opened.close()

    asyncio.run(go())
