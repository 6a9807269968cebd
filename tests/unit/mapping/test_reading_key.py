"""A reading's identifier and the signature that tells a duplicate from a conflict."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import canonical_key, measured_signature, reading_identifier
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Gateway, IdentifierToken, Measured, Reading

WHEN = datetime(2022, 7, 1, tzinfo=UTC)
# Few letters and separators, so that parts that only differ in where they end are common.
PARTS = st.text("a1:|", max_size=4)
KEYS = st.tuples(
    st.none() | PARTS,
    PARTS,
    PARTS,
    PARTS,
    PARTS,
    st.decimals(0, 100, places=1),
    st.lists(PARTS, max_size=3, unique=True).map(sorted).map(tuple),
)


def text_of(parts: Any) -> str:
    system, value, patient, kind, stamp, duration, supplements = parts
    reading = Reading(
        kind,
        None,
        None,
        stamp,
        WHEN,
        "2022-07-01",
        (Measured("value", None),),
        duration=duration,
        supplements=supplements,
    )
    placement = Placement(
        ResourceKey("Patient", patient), ResourceKey("Device", "d"), IdentifierToken(system, value)
    )
    return canonical_key(reading, placement)


@given(first=KEYS, second=KEYS)
def test_different_keys_never_run_together(first: Any, second: Any) -> None:
    assert (text_of(first) == text_of(second)) == (first == second)


def reading(**changes: Any) -> Reading:
    found = Reading(
        "heart-rate",
        None,
        None,
        "2022-07-01T12:00:00Z",
        WHEN,
        "2022-07-01T12:00:00Z",
        (Measured("value", Decimal(66), "/min"),),
        rule=1,
    )
    return found._replace(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"values": (Measured("value", Decimal(70), "/min"),)},
        {"note": "x"},
        {"flags": ("irregular-pulse",)},
        {"effective": "2022-07-01T15:00:00+03:00"},
        {"device": IdentifierToken(None, "as the payload wrote it")},
        {"duration": Decimal("0.0")},
        {"supplements": ()},
    ],
)
def test_what_is_no_part_of_the_key_does_not_change_it(
    changes: dict[str, Any], placement: Placement
) -> None:
    assert reading_identifier(reading(**changes), placement) == reading_identifier(
        reading(), placement
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "blood-pressure"},
        {"stamp": "2022-07-01T12:00:01Z"},
        {"duration": Decimal(60)},
        {"supplements": ("average",)},
    ],
)
def test_what_is_part_of_the_key_changes_it(changes: dict[str, Any], placement: Placement) -> None:
    assert reading_identifier(reading(**changes), placement) != reading_identifier(
        reading(), placement
    )


def test_another_device_or_patient_is_another_key(placement: Placement) -> None:
    other_patient = placement._replace(patient=ResourceKey("Patient", "p2"))
    other_device = placement._replace(device_identifier=IdentifierToken(None, "SN-1"))
    keys = {reading_identifier(reading(), p) for p in (placement, other_patient, other_device)}
    assert len(keys) == 3


def test_the_identifier_names_neither_patient_nor_device(placement: Placement) -> None:
    _, value = reading_identifier(reading(), placement)
    assert "p1" not in value
    assert "SN-1" not in value
    assert len(value) == 40


def pressure(iot_hub: Mapping, placement: Placement, **values: Any) -> Any:
    payload = {
        "type": "Blood Pressure",
        "time": "2022-07-01T12:01:00Z",
        "values": {"systolic": 119, "diastolic": 79} | values,
    }
    outcome = iot_hub.read(payload, Gateway(datetime(2026, 1, 1, tzinfo=UTC)))[0]
    assert isinstance(outcome, Reading)
    return iot_hub.project(outcome, placement, WHEN)


def test_the_same_values_have_the_same_signature_also_when_read_from_the_store(
    iot_hub: Mapping, placement: Placement
) -> None:
    fresh = pressure(iot_hub, placement)
    stored = resource_json.parse_resource(resource_json.format(fresh))
    stored |= {"id": "o1", "note": [{"text": "later"}], "issued": "2030-01-01T00:00:00Z"}
    assert measured_signature(stored) == measured_signature(fresh)
    respelled = pressure(iot_hub, placement, systolic=Decimal("119.0"))
    assert measured_signature(respelled) == measured_signature(fresh)


def test_another_value_has_another_signature(iot_hub: Mapping, placement: Placement) -> None:
    fresh = pressure(iot_hub, placement)
    low = pressure(iot_hub, placement, systolic=91, diastolic=90)
    other = pressure(iot_hub, placement, systolic=Decimal("119.5"))
    assert len({measured_signature(r) for r in (fresh, low, other)}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"interpretation": [{"coding": [{"system": "s", "code": "c"}]}]},
        {"dataAbsentReason": {"coding": [{"system": "s", "code": "error"}]}},
        {"valueQuantity": {"value": 1, "comparator": "<"}},
        {"component": []},
    ],
)
def test_flags_absences_and_comparators_count(
    change: dict[str, Any], iot_hub: Mapping, placement: Placement
) -> None:
    fresh = pressure(iot_hub, placement)
    assert measured_signature(fresh | change) != measured_signature(fresh)
