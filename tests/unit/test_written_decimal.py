"""Decimals come back as they were written, whatever way Python would spell them."""

import copy
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.mapping.normalize import parse_number
from fhir_server.core.written_decimal import WrittenDecimal, read_decimal


@given(
    st.from_regex(
        r"-?(0|[1-9][0-9]{0,20})((\.[0-9]{1,20})|(\.[0-9]{1,9})?[eE][+-]?[0-9]{1,3})",
        fullmatch=True,
    )
)
def test_a_decimal_keeps_its_spelling(text):
    value = resource_json.parse(f"[{text}]".encode())
    assert resource_json.format(value) == f"[{text}]".encode()
    assert resource_json.format_sorted(value) == f"[{text}]".encode()
    assert resource_json.format(copy.deepcopy(value)) == f"[{text}]".encode()
    assert value[0] == Decimal(text)


@pytest.mark.parametrize("text", ["0.0000001", "1E-7", "1e-7", "-0.00000010", "1e5", "0e0"])
def test_it_is_a_number_like_any_other(text):
    number = read_decimal(text)
    assert str(number) == text
    assert (number, hash(number)) == (Decimal(text), hash(Decimal(text)))
    assert type(number + 1) is Decimal
    assert str(pickle.loads(pickle.dumps(number))) == text


def test_only_an_unusual_spelling_is_kept_apart():
    assert type(read_decimal("79.50")) is Decimal
    assert type(read_decimal("0.0000001")) is WrittenDecimal


def test_a_reading_is_its_number_and_not_its_spelling():
    assert str(parse_number(read_decimal("1.2e2"))) == "120"
    assert type(parse_number(read_decimal("0.0000001"))) is Decimal


def test_what_is_no_json_cannot_be_written():
    with pytest.raises(TypeError, match="object"):
        resource_json.format([object()])
