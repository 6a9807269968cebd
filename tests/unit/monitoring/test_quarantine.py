from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import Fault, Gateway, IdentifierToken, QuarantineReason
from fhir_server.core.monitoring import quarantine
from fhir_server.core.monitoring.quarantine import NOTHING_KNOWN, About, HeldBack
from fhir_server.definitions import load

NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)
UNKNOWN = Fault(QuarantineReason.DEVICE_UNKNOWN, "no Device has the identifier")
CONFLICT = Fault(QuarantineReason.CONFLICT, "another value")


@pytest.fixture(scope="module")
def validator():
    return load().validator


tokens = st.none() | st.builds(
    IdentifierToken, st.none() | st.sampled_from(["s", "urn:x"]), st.sampled_from(["1", "2", "1s"])
)
offsets = st.integers(-840, 840).map(lambda minutes: timezone(timedelta(minutes=minutes)))
times = st.builds(
    lambda seconds, micro, zone: datetime.fromtimestamp(seconds, zone).replace(microsecond=micro),
    st.integers(-600_000_000, 4_000_000_000),
    st.integers(0, 999_999),
    offsets,
)
gateways = st.builds(
    Gateway,
    received=times,
    device=tokens,
    patient=tokens,
    sent=st.none() | times,
    gateway_id=st.sampled_from(["", "g", "1"]),
)


def task_of(held, fault=UNKNOWN, about=NOTHING_KNOWN):
    raw = held.payload if isinstance(held.payload, bytes) else b""
    digest = quarantine.payload_digest(raw)
    name = quarantine.task_identifier(held.mapping, digest, held.ordinal, held.gateway)
    return quarantine.quarantine_task(held, fault, about, name, NOW)


@given(st.binary(min_size=1) | st.text(min_size=1).map(str.encode), st.integers(0, 9), gateways)
def test_a_task_gives_back_all_that_the_decision_needs(payload, ordinal, gateway):
    held = HeldBack("ihealth", payload, ordinal, gateway)
    kept = resource_json.parse_resource(resource_json.format(task_of(held)))
    assert quarantine.parse_held_back(kept) == held


@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": 1}',
        b"\xff\xfe",
        b"\x00",
        b" padded ",
        "\u00a0{}".encode(),
        ResourceKey("Binary", "0" * 64),
    ],
)
def test_a_task_keeps_the_rules_of_its_type(validator, payload):
    gateway = Gateway(NOW, IdentifierToken(None, "1"), IdentifierToken("s", "2"), NOW, "hub")
    about = About(
        IdentifierToken("s", "1"), ResourceKey("Patient", "a"), ResourceKey("Observation", "o")
    )
    held = HeldBack("ihealth", payload, 0, gateway)
    task = task_of(held, CONFLICT, about)
    assert validator.check(task) == ()
    assert validator.check(quarantine.completed(task, ["Observation/o"], NOW)) == ()
    assert validator.check(quarantine.with_reason(task, UNKNOWN, about, NOW)) == ()
    assert quarantine.parse_held_back(task) == held


@given(*[st.tuples(st.sampled_from(["m", "m1"]), st.integers(0, 12), gateways)] * 2)
def test_two_outcomes_share_a_task_only_if_nothing_tells_them_apart(one, other):
    def name(mapping, ordinal, gateway):
        return quarantine.task_identifier(mapping, b"digest", ordinal, gateway)

    def identity(mapping, ordinal, gateway):
        named = [tuple(token or ("", "")) for token in (gateway.device, gateway.patient)]
        return mapping, ordinal, *named, gateway.gateway_id

    assert (name(*one) == name(*other)) is (identity(*one) == identity(*other))


def test_when_it_was_sent_and_received_does_not_make_another_task():
    one = Gateway(NOW, sent=NOW)
    other = Gateway(NOW + timedelta(days=1), sent=NOW + timedelta(days=1))
    assert quarantine.task_identifier("m", b"d", 0, one) == quarantine.task_identifier(
        "m", b"d", 0, other
    )


def test_a_long_payload_is_a_binary_named_by_its_digest(validator):
    raw = b"\xff" * 10_000
    key, binary = quarantine.payload_binary(raw)
    assert validator.check({**binary, "id": key.resource_id}) == ()
    assert quarantine.parse_payload_binary(binary) == raw
    assert quarantine.payload_binary(raw)[0] == key
    assert quarantine.payload_binary(raw + b"x")[0] != key


def test_a_task_that_is_done_gives_no_reason_and_says_what_came_of_it():
    task = quarantine.completed(
        task_of(HeldBack("m", b"x", 0, Gateway(NOW))), ["Observation/o"], NOW
    )
    assert task["status"] == "completed"
    assert quarantine.reason_of(task) == ("", "")
    assert task["output"][0]["valueReference"] == {"reference": "Observation/o"}


def test_a_task_opened_again_has_its_new_reason_and_no_output():
    held = HeldBack("m", b"x", 0, Gateway(NOW))
    task = quarantine.completed(task_of(held), ["Observation/o"], NOW)
    again = quarantine.with_reason(task, CONFLICT, NOTHING_KNOWN, NOW)
    assert again["status"] == "requested"
    assert quarantine.reason_of(again) == ("conflict", "another value")
    assert "output" not in again
    assert quarantine.is_reason(again, CONFLICT)
    assert not quarantine.is_reason(again, UNKNOWN)


@pytest.mark.parametrize("missing", ["payload", "mapping", "reading", "received"])
def test_a_task_that_lost_an_input_is_told_from_one_that_has_all(missing):
    task = task_of(HeldBack("m", b"x", 0, Gateway(NOW)))
    task["input"] = [part for part in task["input"] if part["type"]["coding"][0]["code"] != missing]
    with pytest.raises(ValueError, match="lacks an input"):
        quarantine.parse_held_back(task)


def test_another_task_is_no_quarantined_reading():
    assert not quarantine.is_quarantined_reading({"code": {"coding": [{"code": "approve"}]}})
    assert quarantine.is_quarantined_reading(task_of(HeldBack("m", b"x", 0, Gateway(NOW))))


@given(received=times)
def test_a_task_was_never_changed_before_it_was_written(received):
    task = task_of(HeldBack("m", b"x", 0, Gateway(received)))
    authored, modified = (
        datetime.fromisoformat(task[name]) for name in ("authoredOn", "lastModified")
    )
    assert authored == received
    assert modified == max(authored, NOW)


def test_a_task_of_the_same_millisecond_was_not_changed_before_it_was_written():
    received = NOW.replace(microsecond=207)
    task = task_of(HeldBack("m", b"x", 0, Gateway(received)))
    assert datetime.fromisoformat(task["lastModified"]) == received
