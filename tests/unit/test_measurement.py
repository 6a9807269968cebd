"""Measurements in one unit."""

from decimal import Decimal

import pytest

from fhir_server.core.measurement import MeasuredUnit, measure
from fhir_server.errors import InvalidRequest

UCUM = "http://unitsofmeasure.org"


def holder(value, code="kg", system=UCUM, **more):
    quantity = {"value": value, "unit": code, "system": system, "code": code, **more}
    return {
        "code": {"coding": [{"system": "urn:c", "code": "w"}]},
        "valueQuantity": {k: v for k, v in quantity.items() if v is not None},
    }


def test_the_first_unit_is_the_unit_of_all():
    found = measure([holder(Decimal("80.50")), holder(79500, "g"), holder(81)], "urn:c", "w")
    assert found.values == (Decimal("80.50"), Decimal("79.5"), Decimal(81))
    assert found.unit == MeasuredUnit(UCUM, "kg", "kg")
    assert found.total == 3


def test_scales_with_a_zero_of_their_own_convert():
    found = measure([holder(Decimal("36.6"), "Cel"), holder(Decimal("97.7"), "[degF]")], None, "w")
    assert [round(value, 9) for value in found.values] == [Decimal("36.6"), Decimal("36.5")]


@pytest.mark.parametrize("other", [("mol", UCUM), ("kg", "urn:own"), (None, None)])
def test_what_does_not_convert_is_refused(other):
    with pytest.raises(InvalidRequest) as refusal:
        measure([holder(80), holder(1, *other)], None, "w")
    assert refusal.value.issues[0].code == "processing"


def test_what_ucum_does_not_know_compares_with_itself():
    pills = {"code": None, "system": None, "unit": "pills"}
    found = measure([holder(1) | {"valueQuantity": {"value": n, "unit": "pills"}} for n in (1, 2)],
                    None, "w")  # fmt: skip
    assert found.values == (1, 2)
    assert found.unit == MeasuredUnit(pills["system"], pills["code"], pills["unit"])


def test_what_has_no_number_counts_in_the_total_alone():
    found = measure(
        [holder(1), holder(5, comparator="<"), holder(1) | {"valueQuantity": {"unit": "kg"}}],
        "urn:c",
        "w",
    )
    assert (found.values, found.total) == ((1,), 3)


def test_other_codes_and_systems_are_no_measurements():
    assert measure([holder(1)], "urn:other", "w").total == 0
    assert measure([holder(1)], "", "w").total == 0
    assert measure([holder(1)], None, "v").total == 0


@pytest.mark.parametrize(
    ("code", "squared"), [("kg", "kg.kg"), ("mm[Hg]", "mm[Hg].mm[Hg]"), ("Cel", None)]
)
def test_a_variance_is_in_squares(code, squared):
    assert MeasuredUnit(UCUM, code, code).squared().code == squared
