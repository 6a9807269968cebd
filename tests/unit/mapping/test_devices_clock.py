"""A device's clock that is wrong, set right by the gateway's, and the record of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Fault, Gateway, QuarantineReason, Reading

TEXT = """
mapping: acme
zone: Europe/Moscow
device: {value: device}
records:
  - each: records
    time: {at: time, format: iso, now: $.now}
    readings:
      - kind: body-weight
        value: {at: weight, unit: kg}
"""
SENT = datetime(2026, 3, 1, 9, 10, tzinfo=UTC)  # 12:10 in Moscow
GATEWAY = Gateway(SENT + timedelta(seconds=1), sent=SENT)


@pytest.fixture
def scale(compiled: Callable[..., Mapping]) -> Mapping:
    return compiled(TEXT)


def payload(now: str | None, *times: str) -> dict[str, Any]:
    return {
        "device": "SN-1",
        "now": now,
        "records": [{"time": time, "weight": 70} for time in times],
    }


def readings(mapping: Mapping, sent: Any, gateway: Gateway = GATEWAY) -> list[Reading]:
    return [o for o in mapping.read(sent, gateway) if isinstance(o, Reading)]


def test_a_clock_behind_is_set_forward_by_the_difference(scale: Mapping) -> None:
    weight, _ = readings(scale, payload("2026-03-01T12:00:00", "2026-03-01T08:00:00"))
    assert weight.effective == "2026-03-01T08:10:00+03:00"
    assert weight.measured == datetime(2026, 3, 1, 5, 10, tzinfo=UTC)


def test_the_key_keeps_the_stamp_that_the_device_gave(scale: Mapping) -> None:
    corrected, _ = readings(scale, payload("2026-03-01T12:00:00", "2026-03-01T08:00:00"))
    (stated,) = readings(scale, payload(None, "2026-03-01T08:00:00"))
    assert corrected.stamp == stated.stamp
    assert stated.effective == "2026-03-01T08:00:00+03:00"


def test_without_the_gateways_clock_the_time_stays_as_stated(scale: Mapping) -> None:
    sent = payload("2026-03-01T12:00:00", "2026-03-01T08:00:00")
    (weight,) = readings(scale, sent, GATEWAY._replace(sent=None))
    assert weight.effective == "2026-03-01T08:00:00+03:00"
    assert weight.derived_from == ()


def test_both_clocks_are_recorded_as_an_observation_of_the_device(
    scale: Mapping, placement: Placement
) -> None:
    weight, clock = readings(scale, payload("2026-03-01T12:00:00", "2026-03-01T08:00:00"))
    resource = scale.project(clock, placement, SENT)
    assert resource["code"]["coding"][0]["code"] == "67975"
    assert resource["subject"] == {"reference": "Device/d1"}
    assert resource["valueDateTime"] == "2026-03-01T12:00:00+03:00"
    assert resource["effectiveDateTime"] == "2026-03-01T09:10:00Z"
    measured = scale.project(weight, placement, SENT)
    assert measured["derivedFrom"][0]["identifier"] == resource["identifier"][0]


def test_the_clock_of_a_payload_is_recorded_once(scale: Mapping) -> None:
    sent = payload("2026-03-01T12:00:00", "2026-03-01T08:00:00", "2026-03-01T09:00:00")
    found = readings(scale, sent)
    assert [reading.kind for reading in found] == ["body-weight", "body-weight", "device-clock"]


def test_a_clock_is_the_devices_whoever_holds_it(scale: Mapping, placement: Placement) -> None:
    sent = payload("2026-03-01T12:00:00", "2026-03-01T08:00:00")
    _, clock = readings(scale, sent)
    other = placement._replace(patient=placement.patient._replace(resource_id="p2"))
    ours, theirs = (scale.project(clock, p, SENT)["identifier"] for p in (placement, other))
    assert ours == theirs


def test_a_clock_that_was_never_set_is_corrected_too(scale: Mapping) -> None:
    weight, _ = readings(scale, payload("2000-01-01T02:00:00", "2000-01-01T00:30:00"))
    assert weight.measured == SENT - timedelta(minutes=90)


def test_a_clock_years_ahead_is_corrected_and_not_refused(scale: Mapping) -> None:
    weight, _ = readings(scale, payload("2036-03-01T12:10:00", "2036-03-01T11:10:00"))
    assert weight.measured == SENT - timedelta(hours=1)


def test_less_than_a_second_is_the_messages_way_and_not_the_clock(scale: Mapping) -> None:
    sent = payload("2026-03-01T12:10:00", "2026-03-01T08:00:00")
    gateway = GATEWAY._replace(sent=SENT + timedelta(milliseconds=400))
    assert readings(scale, sent, gateway)[0].effective == "2026-03-01T08:00:00+03:00"


def test_a_clock_that_cannot_be_read_is_not_passed_over(scale: Mapping) -> None:
    (found,) = scale.read(payload("noon", "2026-03-01T08:00:00"), GATEWAY)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.INVALID_TIME


def test_a_correction_beyond_the_calendar_is_a_fault(scale: Mapping) -> None:
    (found,) = scale.read(payload("1950-01-01T00:00:00", "9990-01-01T00:00:00"), GATEWAY)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.INVALID_TIME
