"""Judged commits: the alerts follow from the readings, in whatever order they were stored."""

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.alert import format_moment
from fhir_server.core.monitoring.episode import Point, judge
from fhir_server.core.monitoring.limits import ALERT_RULE, MonitoringRules, goal_rules
from fhir_server.core.monitoring.measured import measured
from fhir_server.core.version import deletion, next_version
from fhir_server.operations.judge import Judge
from fhir_server.operations.judged_store import JudgedStore
from fhir_server.operations.raise_alerts import Alerts

ZONE = date_range.load_zone("Europe/Moscow")
PULSE = {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
RULES = MonitoringRules(cooldown=0)
patients = itertools.count()


def quantity(value, **more):
    return {"value": value, "system": "http://unitsofmeasure.org", "code": "/min", **more}


def minutes(number):
    return {"value": number, "code": "min"}


GOALS = {
    "limit": [{"url": "cooldown", "valueDuration": minutes(20)},
              {"url": "margin", "valueQuantity": quantity(5)}],
    "mean": [{"url": "kind", "valueCode": "mean"}, {"url": "last", "valuePositiveInt": 2},
             {"url": "window", "valueDuration": minutes(40)},
             {"url": "cooldown", "valueDuration": minutes(0)}],
    "repeated": [{"url": "kind", "valueCode": "repeated"}, {"url": "last", "valuePositiveInt": 3},
                 {"url": "times", "valuePositiveInt": 2},
                 {"url": "window", "valueDuration": minutes(60)}],
    "change": [{"url": "kind", "valueCode": "change"},
               {"url": "window", "valueDuration": minutes(30)}],
}  # fmt: skip


def goal(name, kind):
    limit = 20 if kind == "change" else 100
    extension = [{"url": ALERT_RULE, "extension": GOALS[kind]}]
    target = {"measure": PULSE, "detailQuantity": quantity(limit, comparator="<=")}
    return {
        "resourceType": "Goal", "id": f"goal-{name}", "lifecycleStatus": "active",
        "subject": {"reference": f"Patient/{name}"},
        "target": [{**target, "extension": extension}],
    }  # fmt: skip


def reading(name, minute, value):
    return {
        "resourceType": "Observation", "id": f"{name}-{minute:03}", "status": "final",
        "code": PULSE, "subject": {"reference": f"Patient/{name}"},
        "effectiveDateTime": f"2024-04-30T{10 + minute // 60:02}:{minute % 60:02}:00Z",
        "valueQuantity": quantity(value),
    }  # fmt: skip


def judged_store(driver):
    ids = (f"made-{next(patients)}" for _ in itertools.count())
    alerts = Alerts(driver.parameters, ZONE, lambda: next(ids))
    return JudgedStore(driver.open_another(), Judge(RULES, driver.parameters, ZONE, alerts))


def put(tx, resource):
    key = ResourceKey(resource["resourceType"], resource["id"])
    tx.put(*next_version(tx.read(key), key, resource, tx.now))


def stored_alerts(driver, name):
    found = driver.search(f"DetectedIssue?patient=Patient/{name}&_count=1000").versions
    issues = [v.resource() for v in found]
    periods = [i["identifiedPeriod"] for i in issues if i["status"] != "entered-in-error"]
    return sorted((p["start"], p.get("end")) for p in periods)


def expected(name, kind, readings):
    """The episodes of all readings at once, without a store."""
    resource = goal(name, kind)
    (rule,) = goal_rules(ResourceKey("Goal", resource["id"]), resource, RULES, ZONE)
    points = sorted(
        Point(date_range.parse(r["effectiveDateTime"], ZONE).start,
              ResourceKey("Observation", r["id"]), number.value)
        for r in readings for number in measured(r).numbers
    )  # fmt: skip
    found = {}
    for each in judge(rule, points, EARLIEST, None):
        if each.episode is not None:
            found[each.episode.start] = each.episode.end
    return sorted(
        (format_moment(start), None if end is None else format_moment(end))
        for start, end in found.items()
    )


@pytest.fixture
def servers(driver):
    """Two processes on one store."""
    return judged_store(driver), judged_store(driver)


@pytest.mark.parametrize("kind", GOALS)
def test_alerts_do_not_depend_on_the_order_of_arrival(driver, servers, kind):
    store = servers[0]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        values=st.lists(st.integers(70, 130), min_size=1, max_size=14),
        data=st.data(),
    )
    def check(values, data):
        name = f"p{next(patients)}"
        run(store, [goal(name, kind)])
        readings = [reading(name, 10 * n, value) for n, value in enumerate(values)]
        arrive = data.draw(st.permutations(readings))
        while arrive:
            size = data.draw(st.integers(1, len(arrive)))
            run(store, arrive[:size])
            arrive = arrive[size:]
        assert stored_alerts(driver, name) == expected(name, kind, readings)
        if len(readings) > 1:
            corrected = data.draw(st.sampled_from(range(len(readings))))
            wrong = readings.pop(corrected)
            if data.draw(st.booleans()):
                readings.append({**wrong, "valueQuantity": quantity(data.draw(st.just(85)))})
                run(store, readings[-1:])
            else:
                driver.run(store.commit(lambda tx: remove(tx, wrong)))
            assert stored_alerts(driver, name) == expected(name, kind, readings)

    def run(store, resources):
        driver.run(store.commit(lambda tx: [put(tx, resource) for resource in resources]))

    check()


def remove(tx, resource):
    current = tx.read(ResourceKey("Observation", resource["id"]))
    tx.put(deletion(current, tx.now), None)


def test_two_processes_raise_an_alert_once(driver, servers):
    name = f"p{next(patients)}"
    driver.write(goal(name, "limit"))
    for minute, value in enumerate((90, 120, 125, 130, 90, 85, 120)):
        store = servers[minute % 2]
        resource = reading(name, minute * 30, value)
        driver.run(store.commit(lambda tx, resource=resource: put(tx, resource)))
    assert len(stored_alerts(driver, name)) == 2


def test_a_decision_that_fails_leaves_no_alert(driver, servers):
    name = f"p{next(patients)}"
    driver.write(goal(name, "limit"))

    def fail(tx):
        put(tx, reading(name, 0, 120))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        driver.run(servers[0].commit(fail))
    assert stored_alerts(driver, name) == []
    driver.run(servers[0].commit(lambda tx: put(tx, reading(name, 10, 120))))
    assert len(stored_alerts(driver, name)) == 1


def test_limits_that_a_physician_changes_hold_for_the_next_reading(driver, servers):
    name = f"p{next(patients)}"
    store = servers[0]
    driver.run(store.commit(lambda tx: put(tx, goal(name, "limit"))))
    driver.run(store.commit(lambda tx: put(tx, reading(name, 0, 95))))
    lower = goal(name, "limit")
    lower["target"][0]["detailQuantity"]["value"] = 80
    # Another process writes it.
    driver.run(servers[1].commit(lambda tx: put(tx, lower)))
    driver.run(store.commit(lambda tx: put(tx, reading(name, 10, 95))))
    assert len(stored_alerts(driver, name)) == 1


def test_nobody_is_woken_for_what_is_over_or_long_ago(driver, servers):
    name = f"p{next(patients)}"
    store = servers[0]
    driver.write(goal(name, "limit"))
    driver.clock.time = driver.clock.time + timedelta(days=30)
    driver.run(store.commit(lambda tx: put(tx, reading(name, 0, 150))))
    assert len(stored_alerts(driver, name)) == 1
    assert driver.ids(f"Communication?subject=Patient/{name}") == []
