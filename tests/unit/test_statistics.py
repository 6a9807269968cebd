"""Statistics in decimals, against what the textbook's definition gives."""

import statistics as textbook
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.statistics import STATISTICS, percentile, shown

numbers = st.lists(
    st.decimals(-(10**6), 10**6, places=3, allow_nan=False), min_size=2, max_size=50
).map(sorted)


@given(numbers)
def test_they_are_what_the_textbook_says(values):
    expected = {
        "average": textbook.mean(values),
        "median": textbook.median(values),
        "variance": textbook.variance(values),
        "std-dev": textbook.stdev(values),
        "sum": sum(values),
        "minimum": min(values),
        "maximum": max(values),
    }
    for name, value in expected.items():
        found = STATISTICS[name].calculate(values)
        assert float(found) == pytest.approx(float(value), rel=1e-9, abs=1e-9), name


@given(numbers)
def test_quartiles_are_those_of_the_inclusive_method(values):
    lower, middle, upper = textbook.quantiles(values, n=4, method="inclusive")
    assert float(percentile(values, 25)) == pytest.approx(float(lower), abs=1e-9)
    assert float(percentile(values, 50)) == pytest.approx(float(middle), abs=1e-9)
    assert float(percentile(values, 75)) == pytest.approx(float(upper), abs=1e-9)
    deviation = STATISTICS["4-dev"].calculate(values)
    assert float(deviation) == pytest.approx(float(upper - lower) / 2, abs=1e-9)


def test_of_one_value_there_is_no_deviation():
    one = [Decimal("36.6")]
    assert STATISTICS["std-dev"].calculate(one) is None
    assert STATISTICS["variance"].calculate(one) is None
    assert STATISTICS["20-percent"].calculate(one) == one[0]


@pytest.mark.parametrize(
    ("value", "text"),
    [("80.33333333333333333", "80.3333333333"), ("5.50", "5.5"), ("120", "120"), ("1E+3", "1000"),
     ("0.000012", "0.000012"), ("-0.5", "-0.5"), ("12345678901234", "12345678901200")],
)  # fmt: skip
def test_digits_that_mean_nothing_are_not_shown(value, text):
    assert format(shown(Decimal(value)), "f") == text
    assert "E" not in str(shown(Decimal(value))) or Decimal(value) < Decimal("0.00001")
