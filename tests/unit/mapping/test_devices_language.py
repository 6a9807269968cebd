"""The words that devices need: what they mean in a mapping, and what `check` says of them."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.check import check
from fhir_server.core.mapping.key import reading_key
from fhir_server.core.mapping.language import Language
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    IdentifierToken,
    QuarantineReason,
    Reading,
    Samples,
)

GATEWAY = Gateway(datetime(2026, 1, 1, tzinfo=UTC))

SCALE = """
mapping: acme
records:
  - time: {at: time, format: iso}
    readings:
      - kind: body-weight
        value: {at: weight, unit: kg, %s}
"""


def value(compiled: Callable[..., Mapping], words: str, **payload: Any) -> Any:
    sent = {"time": "2025-03-01T08:00:00Z", **payload}
    (found,) = compiled(SCALE % words).read(sent, GATEWAY)
    return found.values[0] if isinstance(found, Reading) else found


@pytest.mark.parametrize(
    ("number", "exponent", "stored"),
    [(65750, -3, "65.750"), (7, 1, "70"), (Decimal("6.5"), 1, "65"), ("80", "0", "80")],
)
def test_an_exponent_keeps_the_digits(
    compiled: Callable[..., Mapping], number: Any, exponent: Any, stored: str
) -> None:
    found = value(compiled, "exponent: power", weight=number, power=exponent)
    assert str(found.value) == stored


@pytest.mark.parametrize("exponent", [None, Decimal("0.5"), 400, "x", True])
def test_an_exponent_that_is_none_is_a_fault(
    compiled: Callable[..., Mapping], exponent: Any
) -> None:
    found = value(compiled, "exponent: power", weight=1, power=exponent)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.INVALID_VALUE


def test_a_comparator_beside_a_number_is_the_limits(compiled: Callable[..., Mapping]) -> None:
    assert value(compiled, "comparator: sign", weight=150, sign=">").comparator == ">"
    assert value(compiled, "comparator: sign", weight=150).comparator == ""
    assert isinstance(value(compiled, "comparator: sign", weight=150, sign="~"), Fault)


def test_a_reason_without_a_number_makes_the_absence_a_reading(
    compiled: Callable[..., Mapping],
) -> None:
    found = value(compiled, "absent: why", why="error")
    assert (found.value, found.absent) == (None, "error")
    assert value(compiled, "absent: why", weight=70, why="error").value == 70


def test_a_trace_writes_its_gaps_as_e(compiled: Callable[..., Mapping]) -> None:
    words = "placeholder: [0, off], samples: {period: every}"
    sent = [70, None, 0, "off", Decimal("70.50")]
    found = value(compiled, words, weight=sent, every=20)
    assert found.value == Samples(Decimal(20), "70 E E E 70.50")


@pytest.mark.parametrize(("sent", "every"), [([1], 0), ([1], None), (["x"], 20), (7, 20)])
def test_a_trace_that_cannot_be_read_is_a_fault(
    compiled: Callable[..., Mapping], sent: Any, every: Any
) -> None:
    found = value(compiled, "samples: {period: every}", weight=sent, every=every)
    assert isinstance(found, Fault)


def test_a_focus_makes_another_reading_of_the_same_moment() -> None:
    placement = Placement(
        ResourceKey("Patient", "p"), ResourceKey("Device", "d"), IdentifierToken("s", "1")
    )
    mother = Reading("heart-rate", None, None, "t", GATEWAY.received, "2026", ())
    keys = {
        reading_key(reading, placement)
        for reading in (
            mother,
            mother._replace(focus="fetus 1"),
            mother._replace(focus="fetus 2"),
            mother._replace(supplements=("fetus 1",)),
        )
    }
    assert len(keys) == 4


DERIVED = """
mapping: acme
records:
  - time: {at: time, format: iso}
    readings:
      - kind: fetal-heart-rate
        derived-from: fetal-heart-rate-trace
        value: {at: mean, unit: /min}
      - kind: fetal-heart-rate-trace
        value: {at: trace, unit: /min, samples: {period: every}}
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (DERIVED, "no reading of the kind `fetal-heart-rate-trace` stands before this one"),
        (SCALE % 'comparator: "a["', "not JMESPath"),
        (SCALE % "samples: {every: 4}", "missing: `period`"),
        ("decode: morse" + SCALE % "scale: 1", "must be one of: bluetooth, csv"),
        (SCALE.replace("format: iso", "format: iso, fault: '=='") % "scale: 1", "not JMESPath"),
    ],
)
def test_check_names_what_is_wrong_with_a_new_word(
    files_of: Callable[..., Any], language: Language, text: str, reason: str
) -> None:
    found = [str(fault) for fault in check(files_of(text, examples={}), language)]
    assert any(reason in fault for fault in found), found


def test_a_user_that_the_device_does_not_know_is_somebodys_if_the_payload_says_whose(
    compiled: Callable[..., Mapping],
) -> None:
    text = (SCALE % "scale: 1").replace(
        "    readings:",
        "    ambiguous: user == 'unknown'\n    patient: {value: who}\n    readings:",
    )
    sent = {"time": "2025-03-01T08:00:00Z", "weight": 70, "user": "unknown"}
    (found,) = compiled(text).read(sent, GATEWAY)
    assert isinstance(found, Fault)
    assert found.reason is QuarantineReason.USER_AMBIGUOUS
    (found,) = compiled(text).read({**sent, "who": "p1"}, GATEWAY)
    assert isinstance(found, Reading)
