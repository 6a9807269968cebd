"""The sweep: a measurement that did not come is a Task, once, and closed when it has come."""

import asyncio
import itertools
from datetime import datetime, timedelta

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version
from fhir_server.errors import StoreUnavailable
from fhir_server.interactions.context import Context
from fhir_server.operations.missed_measurements import Sweep

CODE = {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]}
MISSED = "Task?code=https://pmp.example/fhir/CodeSystem/task|missed-measurement&_count=100"
names = itertools.count()


class Scene:
    """A store at nine in the morning (Moscow), a sweep, and short words."""

    def __init__(self, driver):
        self.driver = driver
        self.driver.clock.time = datetime.fromisoformat("2026-03-02T06:00:00+00:00")
        self.sweep = self.another()

    def another(self, store=None):
        """The sweep of another process, or of one that was started again."""
        ids = (f"{next(names):08}" for _ in itertools.count())
        context = Context(
            store=store or self.driver.open_another(),
            parameters=self.driver.parameters,
            validator=self.driver.definitions.validator,
            now=self.driver.clock,
            new_id=lambda: next(ids),
        )
        return Sweep(context)

    def look(self, sweep=None):
        return self.driver.run((sweep or self.sweep).once())

    def at(self, text):
        self.driver.clock.time = datetime.fromisoformat(f"2026-03-{text}+03:00")

    def write(self, *resources):
        def decide(tx):
            for resource in resources:
                key = ResourceKey(resource["resourceType"], resource["id"])
                tx.put(*next_version(tx.read(key), key, resource, tx.now))

        self.driver.commit(decide)

    def plan(self, name="plan", *, repeat=None, **more):
        timing = {"repeat": repeat or {"period": 1, "periodUnit": "d", "when": ["MORN", "EVE"]}}
        detail = {"status": "scheduled", "code": CODE, "scheduledTiming": timing}
        self.write(
            {"resourceType": "Patient", "id": f"of-{name}"},
            {"resourceType": "CarePlan", "id": name, "status": "active", "intent": "plan",
             "subject": {"reference": f"Patient/of-{name}"}, "period": {"start": "2026-03-01"},
             "author": {"display": "The physician"}, "activity": [{"detail": detail}], **more},
        )  # fmt: skip

    def measure(self, moment, name="plan"):
        self.write(
            {"resourceType": "Observation", "id": f"o{next(names)}", "status": "final",
             "code": CODE, "subject": {"reference": f"Patient/of-{name}"},
             "effectiveDateTime": f"2026-03-{moment}+03:00", "valueQuantity": {"value": 1}}
        )  # fmt: skip

    def tasks(self):
        found = [v.resource() for v in self.driver.search(MISSED).versions]
        return sorted((t["executionPeriod"]["start"][8:16], t["status"]) for t in found)


@pytest.fixture
def scene(driver):
    return Scene(driver)


def test_what_did_not_come_by_the_end_of_its_window_is_a_task(scene):
    scene.plan()
    assert scene.look() == 0
    scene.at("02T11:59:00")
    assert scene.look() == 0
    scene.at("02T12:00:00")
    assert scene.look() == 1
    assert scene.tasks() == [("02T04:00", "requested")]
    assert scene.look() == 0
    (version,) = scene.driver.search(f"{MISSED}&based-on=CarePlan/plan").versions
    task = version.resource()
    assert task["for"] == {"reference": "Patient/of-plan"}
    assert task["owner"] == {"display": "The physician"}
    assert scene.driver.definitions.validator.check(task) == ()


def test_what_came_in_time_is_not_missed(scene):
    scene.plan()
    scene.look()
    scene.measure("02T08:00:00")
    scene.at("02T12:00:01")
    assert scene.look() == 0
    scene.at("03T00:00:01")
    assert scene.look() == 1
    assert scene.tasks() == [("02T17:00", "requested")]


def test_a_late_reading_closes_its_task(scene):
    scene.plan()
    scene.look()
    scene.at("02T12:00:00")
    scene.look()
    # It was taken in time, and its device was offline.
    scene.measure("02T10:00:00")
    scene.at("02T12:30:00")
    assert scene.look() == 1
    assert scene.tasks() == [("02T04:00", "completed")]
    scene.at("02T12:50:00")
    assert scene.look() == 0


def test_a_restart_goes_on_where_the_last_look_ended(scene):
    scene.plan()
    scene.look()
    scene.at("02T12:00:00")
    scene.look()
    # Dead for two days; the lease has ended long ago.
    scene.at("04T13:00:00")
    again = scene.another()
    assert scene.look(again) == 4
    assert len(scene.tasks()) == 5
    assert scene.look(scene.another()) == 0


def test_one_process_looks_at_a_time_and_another_takes_over(scene):
    scene.plan()
    scene.look()
    other = scene.another()
    scene.at("02T09:02:00")
    scene.look()
    scene.look(other)
    scene.at("02T12:00:00")
    # The first one is gone.
    assert scene.look(other) == 1
    assert scene.look() == 0
    assert len(scene.tasks()) == 1


class FailingStore:
    """A store that dies after so many commits."""

    def __init__(self, store, commits):
        self._store, self._left = store, commits

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def commit(self, decide):
        if not self._left:
            raise StoreUnavailable("killed")
        self._left -= 1
        return await self._store.commit(decide)


@pytest.mark.parametrize("commits", range(8))
def test_a_process_that_dies_at_any_commit_loses_and_doubles_nothing(scene, commits):
    for number in range(3):
        scene.plan(f"plan-{number}")
    scene.look()
    scene.at("02T12:00:00")
    dying = scene.another(FailingStore(scene.driver.open_another(), commits))

    async def die():
        try:
            await dying.once()
        except StoreUnavailable:
            await asyncio.sleep(0)

    scene.driver.run(die())
    scene.at("02T12:20:00")
    scene.look(scene.another())
    assert scene.tasks() == [("02T04:00", "requested")] * 3


def test_a_plan_that_changes_is_looked_at_by_its_new_schedule(scene):
    scene.plan()
    scene.look()
    scene.plan(repeat={"timeOfDay": ["08:00:00"]})
    scene.at("02T10:00:01")
    assert scene.look() == 1
    scene.plan(status="on-hold")
    scene.at("03T23:00:00")
    assert scene.look() == 0


def test_a_plan_that_begins_in_the_past_misses_nothing_there(scene):
    scene.plan("first")
    scene.look()
    scene.at("02T09:01:00")
    scene.plan("second", period={"start": "2026-02-01"})
    assert scene.look() == 0
    scene.at("02T12:00:00")
    assert scene.look() == 2


def test_an_interrogation_that_does_not_come_by_its_date_is_missed(scene):
    detail = {"status": "scheduled", "code": CODE, "scheduledTiming": {"event": ["2026-03-03"]}}
    scene.plan(activity=[{"detail": detail}])
    scene.look()
    scene.at("03T23:59:00")
    assert scene.look() == 0
    scene.at("04T00:00:00")
    assert scene.look() == 1


def test_a_silent_hour_of_a_continuous_monitor_is_one_task(scene):
    scene.plan(repeat={"frequency": 1, "period": 5, "periodUnit": "min"})
    scene.look()
    for minute in range(0, 60, 5):
        if minute != 30:
            scene.measure(f"02T09:{minute:02}:00")
    scene.at("02T10:00:00")
    assert scene.look() == 0
    scene.at("02T11:00:00")
    assert scene.look() == 1
    scene.at("02T12:00:00")
    assert scene.look() == 0
    assert scene.tasks() == [("02T10:00", "requested")]


def test_a_plan_that_nobody_understands_does_not_stop_the_others(scene):
    scene.plan("odd", repeat={"when": ["WHENEVER"]})
    scene.plan("good")
    scene.look()
    scene.at("02T12:00:00")
    assert scene.look() == 1


def test_many_plans_are_looked_at_only_when_they_are_due(scene):
    for number in range(30):
        scene.plan(f"plan-{number}")
    scene.look()
    looked_at = []
    inner = scene.sweep._check

    async def counted(key, now):
        looked_at.append(key)
        return await inner(key, now)

    scene.sweep._check = counted
    for _ in range(20):
        scene.driver.clock.advance(timedelta(minutes=1).total_seconds())
        scene.look()
    # Once more each: what was written before the first look is followed twice.
    assert len(looked_at) <= 60
    looked_at.clear()
    scene.look()
    assert looked_at == []
