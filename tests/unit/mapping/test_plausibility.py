"""What is believed is data: by unit, with a reason, and never dropped in silence."""

from decimal import Decimal

import pytest

from fhir_server.core.mapping.knowledge import Bounds, parse
from fhir_server.core.mapping.normalize import Amount, ImplausibleValueError
from fhir_server.definitions import load

PLAUSIBLE = {
    "mmol/L": Bounds(Decimal("0.5"), Decimal(60)),
    "mg/dL": Bounds(Decimal(9), Decimal(1080)),
}


def glucose(number, unit, comparator=""):
    amount = Amount("value", unit=unit, plausible=PLAUSIBLE)
    return amount._measured(Decimal(number), comparator, unit)


@pytest.mark.parametrize(
    ("number", "unit"), [("560", "mmol/L"), ("0.4", "mmol/L"), ("5.6", "mg/dL")]
)
def test_beyond_the_bounds_of_its_unit_is_implausible(number, unit):
    with pytest.raises(ImplausibleValueError) as caught:
        glucose(number, unit)
    assert number not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "unit"), [("60", "mmol/L"), ("0.5", "mmol/L"), ("560", "mg/dL")]
)
def test_the_bounds_are_believed(number, unit):
    assert glucose(number, unit).value == Decimal(number)


def test_hi_says_where_the_device_ends():
    assert glucose("61", "mmol/L", ">").comparator == ">"


def test_bounds_the_wrong_way_round_are_refused():
    with pytest.raises(ValueError, match="above the maximum"):
        parse([
            '{"measurements": {"x": {"display": "X", "category": "c", "codes": [],'
            ' "plausible": {"kg": {"minimum": 2, "maximum": 1}}}}}'
        ])  # fmt: skip


def test_every_number_that_a_patient_is_watched_by_has_bounds(knowledge):
    for kind in ("blood-pressure", "heart-rate", "oxygen-saturation", "body-weight",
                 "body-temperature", "glucose", "interstitial-glucose"):  # fmt: skip
        found = knowledge.measurements[kind]
        for quality in (found, *found.components.values()):
            assert set(quality.units()) <= set(quality.plausible), kind


@pytest.fixture(scope="module")
def knowledge():
    texts = [
        (folder / "measurements.json").read_bytes()
        for folder in load((), (), ()).terminology_folders
    ]
    return parse(texts)
