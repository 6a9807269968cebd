"""Views of many readings: right numbers, one of each, and out of the way of measurements."""

import asyncio
import json
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from fhir_server.app import open_components
from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.views import VIEW_SYSTEM
from fhir_server.core.version import deletion
from fhir_server.interactions.condition import parse_condition
from fhir_server.interactions.update import update
from fhir_server.operations.keep_views import compute_views
from fhir_server.settings import Settings

LOINC = "http://loinc.org"
DERIVED = "https://pmp.example/fhir/CodeSystem/reading-standing|derived"


def quantity(value, unit):
    return {"value": value, "system": "http://unitsofmeasure.org", "code": unit}


def glucose(patient, time, value, unit="mmol/L"):
    code = "105272-9" if unit == "mmol/L" else "99504-3"
    return {
        "resourceType": "Observation", "status": "final",
        "code": {"coding": [{"system": LOINC, "code": code}]},
        "category": [{"coding": [{"code": "laboratory"}]}],
        "subject": {"reference": f"Patient/{patient}"},
        "effectiveDateTime": time, "valueQuantity": quantity(value, unit),
    }  # fmt: skip


def pressure(patient, time, systolic, diastolic):
    part = {"85354-9": None, "8480-6": systolic, "8462-4": diastolic}
    codes = {code: {"coding": [{"system": LOINC, "code": code}]} for code in part}
    return {
        "resourceType": "Observation", "status": "final", "code": codes["85354-9"],
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "vital-signs"}]}],
        "subject": {"reference": f"Patient/{patient}"}, "effectiveDateTime": time,
        "component": [
            {"code": codes[code], "valueQuantity": quantity(value, "mm[Hg]")}
            for code, value in part.items() if value is not None
        ],
    }  # fmt: skip


def told(observation):
    return {
        part["code"]["coding"][0]["code"]: part["valueQuantity"]["value"]
        for part in observation["component"]
    }


def test_the_summary_of_glucose_is_right(ward):
    patient = ward.patient()[0]["id"]
    for minute, value in enumerate((3.8, 6.0, 10.0, 10.1)):
        ward.create(glucose(patient, f"2024-03-10T08:{5 * minute:02}:00+03:00", value))
    summary = ward.get(f"Patient/{patient}/$cgm-summary?start=2024-03-10&end=2024-03-10")
    assert summary["code"]["coding"][0]["code"] == "107931-8"
    # Mean 7.475 mmol/L is 134.67 mg/dL; its standard deviation is 3.1063.
    assert told(summary) == {
        "105273-7": 7.5, "97506-0": 6.5, "97510-2": 50.0, "104638-2": 41.6,
        "104636-6": 1, "104637-4": 1.4,
    }  # fmt: skip


def test_a_day_is_one_trace_with_gaps(ward):
    patient = ward.patient()[0]["id"]
    ward.create(glucose(patient, "2024-03-10T00:00:10+03:00", 5.5))
    ward.create(glucose(patient, "2024-03-10T00:10:00+03:00", 6))
    ward.create(glucose(patient, "2024-03-11T00:00:00+03:00", 9))
    trace = ward.get(f"Patient/{patient}/$cgm-day?start=2024-03-10")["valueSampledData"]
    assert trace["period"] == 300_000
    assert trace["data"].split() == ["5.5", "E", "6.0", *["E"] * 285]


def test_beyond_the_sensor_is_marked_and_its_limits_are_told(ward):
    patient = ward.patient()[0]["id"]
    device = {"reference": f"Device/{ward.device()[0]['id']}"}
    for minute, value, comparator in ((0, 2.2, "<"), (5, 22.2, ">"), (10, 7.1, None)):
        point = glucose(patient, f"2024-03-10T00:{minute:02}:00+03:00", value)
        if comparator:
            point["valueQuantity"]["comparator"] = comparator
        ward.create({**point, "device": device})
    day = ward.get(f"Patient/{patient}/$cgm-day?start=2024-03-10")
    trace = day["valueSampledData"]
    assert trace["data"].split()[:4] == ["L", "U", "7.1", "E"]
    assert (trace["lowerLimit"], trace["upperLimit"]) == (2.2, 22.2)
    assert (day["device"], day["status"]) == (device, "final")
    assert day["code"]["coding"][0]["code"] == "105272-9"


def test_a_day_that_goes_on_is_preliminary(ward):
    patient = ward.patient()[0]["id"]
    now = datetime.fromtimestamp(time.time(), UTC)
    ward.create(glucose(patient, now.isoformat(), 7))
    today = now.astimezone(ZoneInfo("Europe/Moscow")).date()
    assert ward.get(f"Patient/{patient}/$cgm-day?start={today}")["status"] == "preliminary"


def test_the_mean_of_pressure_is_derived_from_the_pairs(ward):
    patient = ward.patient()[0]["id"]
    pairs = [
        ward.create(pressure(patient, f"2024-03-{day}T08:00:00Z", systolic, diastolic))
        for day, systolic, diastolic in (("10", 130, 80), ("11", 141, 91))
    ]
    mean = ward.get(f"Patient/{patient}/$home-blood-pressure?start=2024-03-10&end=2024-03-12")
    assert told(mean) == {"96608-5": 136, "96609-3": 86}
    assert mean["derivedFrom"] == [{"reference": f"Observation/{p['id']}"} for p in pairs]


def test_nothing_measured_is_not_found(ward):
    patient = ward.patient()[0]["id"]
    for name in ("cgm-summary", "cgm-day", "home-blood-pressure"):
        assert ward.http.get(f"{ward.root}/fhir/Patient/{patient}/${name}").status_code == 404
    url = f"{ward.root}/fhir/Patient/{patient}/$cgm-summary"
    for asked in ("start=x", "start=2024-01-01&end=2025-01-01", "start=2024-02-01&end=2024-01-01"):
        assert ward.http.get(f"{url}?{asked}").status_code == 400


class TestDailyJob:
    @pytest.fixture
    def components(self, tmp_path):
        made = open_components(Settings(store=f"sqlite:///{tmp_path}/views.db"))
        yield made
        asyncio.run(made.store.close())

    def test_views_are_updated_and_never_doubled(self, components, tmp_path):
        asyncio.run(self.check(components))

    async def check(self, components):
        ctx = components.context
        await put(ctx, {"resourceType": "Patient", "id": "p"})
        await put(ctx, {**glucose("p", "2024-03-10T08:00:00Z", 6), "id": "g"})
        await put(ctx, {**pressure("p", "2024-03-10T08:00:00Z", 130, 80), "id": "b"})
        day = date(2024, 3, 10)
        assert await compute_views(ctx, "one", day) == 3
        # The day is done: nobody does it again.
        assert await compute_views(ctx, "other", day) == 0
        await put(ctx, {**glucose("p", "2024-03-10T08:00:00Z", 7), "id": "g"})
        await ctx.store.commit(lambda tx: forget_work(tx, day))
        assert await compute_views(ctx, "other", day) == 2
        found = await ctx.store.search(query(ctx, "Observation", _tag=DERIVED))
        assert len(found.versions) == 3
        (summary,) = [v.resource() for v in found.versions if b"107931-8" in (v.body or b"")]
        assert told(summary)["105273-7"] == Decimal("7.0")
        assert len(summary["derivedFrom"]) == 1


def query(ctx, resource_type, **asked):
    return parse_condition(ctx, resource_type, tuple(asked.items())).query._replace(count=50)


async def put(ctx, resource):
    key = ResourceKey(resource["resourceType"], resource["id"])
    await update(ctx, key, resource_json.parse_resource(json.dumps(resource).encode()))


def forget_work(tx, day):
    name = (VIEW_SYSTEM, f"views/{day.isoformat()}")
    for key in tx.find("Task", (name,)).get(name, ()):
        tx.put(deletion(tx.read(key), tx.now), None)


def test_derived_ones_are_no_measurements(ward):
    patient = ward.patient()[0]["id"]
    ward.create(pressure(patient, "2024-03-10T08:00:00Z", 130, 80))
    averaged = pressure(patient, "2024-03-11T08:00:00Z", 130, 80)
    system, _, code = DERIVED.partition("|")
    ward.create({**averaged, "meta": {"tag": [{"system": system, "code": code}]}})
    last = ward.get(f"Observation/$lastn?patient=Patient/{patient}&category=vital-signs")
    assert [e["resource"]["effectiveDateTime"][:10] for e in last["entry"]] == ["2024-03-10"]
    stats = ward.get(
        f"Observation/$stats?subject=Patient/{patient}&code=8480-6&statistic=total-count"
    )
    (statistics,) = [p["resource"] for p in stats["parameter"]]
    assert statistics["component"][0]["valueQuantity"]["value"] == 1
