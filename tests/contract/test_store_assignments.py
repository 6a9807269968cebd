"""Assignments that are refused or corrected, on every store, by several processes."""

import asyncio
import itertools
from datetime import timedelta

import pytest

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.catalog import compile_catalog
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from fhir_server.core.monitoring.placing_work import LEASE
from fhir_server.core.version import next_version
from fhir_server.definitions import read_mapping_language
from fhir_server.errors import VersionConflict
from fhir_server.interactions.context import Context
from fhir_server.operations.guard_assignments import AssignmentGuard
from fhir_server.operations.judged_store import JudgedStore
from fhir_server.operations.move_readings import decide_piece
from fhir_server.operations.place_again import PlacingAgain

ZONE = date_range.load_zone("Europe/Moscow")
kits = itertools.count()
made = itertools.count()


def new_id():
    return f"placing-{next(made)}"


@pytest.fixture
def process(driver):
    """One more process on the store: its guarded store, and what places again."""

    def another():
        guard = AssignmentGuard(driver.parameters, ZONE, new_id)
        store = JudgedStore(driver.open_another(), guard)
        ctx = Context(
            store=store,
            parameters=driver.parameters,
            validator=driver.definitions.validator,
            now=driver.clock,
            new_id=new_id,
        )
        language = read_mapping_language(driver.definitions.terminology_folders, "Europe/Moscow")
        return ctx, PlacingAgain(ctx, compile_catalog([], language), new_id())

    return another


class Kit:
    """A device, two patients, and readings of the first."""

    def __init__(self, driver, readings=0):
        self.driver = driver
        self.name = f"kit-{next(kits)}"
        self.one, self.other = f"Patient/{self.name}-1", f"Patient/{self.name}-2"
        driver.write(
            *(
                {"resourceType": "Patient", "id": p.partition("/")[2]}
                for p in (self.one, self.other)
            ),
            {
                "resourceType": "Device",
                "id": self.name,
                "identifier": [{"system": "urn:serial", "value": self.name}],
            },
        )
        self.count = readings

    def statement(self, patient, suffix="s", **more):
        return {
            "resourceType": "DeviceUseStatement",
            "id": f"{self.name}-{suffix}",
            "status": "active",
            "subject": {"reference": patient},
            "device": {"reference": f"Device/{self.name}"},
            "timingPeriod": {"start": "2020-01-01"},
            **more,
        }

    def reading(self, number):
        return {
            "resourceType": "Observation",
            "id": f"{self.name}-{number}",
            "identifier": [{"system": IDENTIFIER_SYSTEM, "value": f"{self.name}-{number}"}],
            "status": "final",
            "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
            "subject": {"reference": self.one},
            # Several at one instant, so that a page ends between them.
            "effectiveDateTime": f"2024-03-01T08:00:{number // 5:02}Z",
            "device": {"reference": f"Device/{self.name}"},
        }

    def write_all(self):
        self.driver.write(*(self.reading(n) for n in range(self.count)))

    def subjects(self):
        found = self.driver.search(f"Observation?device=Device/{self.name}&_count=1000").versions
        return [(v.resource()["subject"]["reference"], v.version_id) for v in found]


def put(tx, resource):
    key = ResourceKey(resource["resourceType"], resource["id"])
    tx.put(*next_version(tx.read(key), key, resource, tx.now))


async def assign(ctx, statement):
    await ctx.store.commit(lambda tx: put(tx, statement))


def test_of_writers_that_race_one_is_refused(driver, process):
    kit = Kit(driver)
    writers = [process()[0] for _ in range(2)]

    async def race():
        statements = [kit.statement(kit.one, "a"), kit.statement(kit.other, "b")]
        return await asyncio.gather(
            *(assign(ctx, s) for ctx, s in zip(writers, statements, strict=True)),
            return_exceptions=True,
        )

    refused = [answer for answer in driver.run(race()) if answer is not None]
    assert [type(error) for error in refused] == [VersionConflict]
    assert refused[0].issues[0].expression == "DeviceUseStatement.timing"


def test_one_patient_may_say_it_twice(driver, process):
    kit, (ctx, _) = Kit(driver), process()
    for suffix in "ab":
        driver.run(assign(ctx, kit.statement(kit.one, suffix)))


def test_whoever_dies_after_any_piece_is_followed_by_another(driver, process):
    kit = Kit(driver, readings=23)
    ctx, _ = process()
    driver.run(assign(ctx, kit.statement(kit.one)))
    kit.write_all()
    driver.run(assign(ctx, kit.statement(kit.other)))
    (task,) = driver.search(f"Task?focus=Device/{kit.name}").versions

    processes = [process()[0] for _ in range(2)]

    def one_piece():
        # An owner that is never heard of again.
        another = next(turns)
        return driver.run(another.store.commit(decide_piece(another, task.key, new_id(), 7)))

    turns = itertools.cycle(processes)
    for _ in range(4):
        assert one_piece() is not None
        # Somebody else waits until the lease of the one who died is over.
        assert one_piece() is None
        driver.clock.advance(LEASE / timedelta(seconds=1) + 1)
    _, placing = process()
    counts = driver.run(placing.place_all())
    assert counts.moved == 23
    assert kit.subjects() == [(kit.other, 2)] * 23


def test_two_processes_at_once_move_everything_once(driver, process):
    kit = Kit(driver, readings=40)
    (ctx, one), (_, other) = process(), process()
    driver.run(assign(ctx, kit.statement(kit.one)))
    kit.write_all()
    driver.run(assign(ctx, kit.statement(kit.other)))

    async def both():
        await asyncio.gather(one.place_all(), other.place_all())

    driver.run(both())
    assert kit.subjects() == [(kit.other, 2)] * 40
    assert not driver.search("Task?code=place-readings-again&status=requested,in-progress").versions
