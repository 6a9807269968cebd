"""Topics and what is said beside a payload: values in, values out."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from fhir_server.core.mapping.reading import IdentifierToken, QuarantineReason
from fhir_server.intake.message import UNROUTED, Message, Sender, route
from fhir_server.intake.topic import Hints, parse_route, shared

NOW = datetime(2026, 3, 1, tzinfo=UTC)

level = st.sampled_from(["", "a", "b", "readings"])
template_level = level | st.just("+")


def message(topic, *properties, payload=b"{}", length=None):
    return Message(topic, payload, length or len(payload), properties, NOW, 1, 1)


@given(st.lists(template_level, min_size=1, max_size=4), st.booleans(), st.lists(level, min_size=1))
def test_a_route_fits_what_the_broker_sends_for_its_filter(levels, is_open, topic):
    template = "/".join([*levels, "#"] if is_open else levels)
    if not template:
        return
    found = parse_route(template, "cgm")
    assert found.filter == template
    text = "/".join(topic)
    if text:
        assert (found.match(text) is not None) == topic_matches_sub(template, text)


def test_a_level_names_what_the_payload_does_not():
    found = parse_route("clinics/{gateway}/{mapping}/{device}/#")

    assert found.filter == "clinics/+/+/+/#"
    assert found.match("clinics/g1/cgm/T-1") == Hints("cgm", "T-1", gateway="g1")
    assert found.match("clinics/g1/cgm") is None


@pytest.mark.parametrize(
    ("template", "mapping"),
    [
        ("", "cgm"),
        ("a/#/b", "cgm"),
        ("a/b+", "cgm"),
        ("a/{b", "cgm"),
        ("a/{ward}", "cgm"),
        ("{device}/{device}", "cgm"),
        ("$SYS/#", "cgm"),
        ("a/{mapping}", "cgm"),
        ("a", ""),
    ],
)
def test_what_is_no_template_is_refused(template, mapping):
    with pytest.raises(ValueError, match=r"\w"):
        parse_route(template, mapping)


def test_a_group_that_would_change_the_filter_is_refused():
    assert shared("a/+", "ward") == "$share/ward/a/+"
    with pytest.raises(ValueError, match="shared"):
        shared("a/+", "ward/x")


def test_a_property_wins_over_the_topic_and_the_route_gives_the_system():
    routes = [parse_route("in/{device}", "cgm", "urn:serial")]

    by_topic = route(message("in/T-1", ("gateway-time", "2026-03-01T10:00:00+03:00")), routes)
    by_property = route(message("in/T-1", ("device", "urn:other|T-2"), ("patient", "P-1")), routes)

    assert by_topic.sender.device == IdentifierToken("urn:serial", "T-1")
    assert by_topic.sender.sent == datetime(2026, 3, 1, 7, tzinfo=UTC)
    assert by_property.sender.device == IdentifierToken("urn:other", "T-2")
    assert by_property.sender.patient == IdentifierToken(None, "P-1")


def test_what_cannot_be_read_is_a_fault_and_never_an_error():
    routes = [parse_route("in/{mapping}", "", "")]

    assert route(message("elsewhere"), routes).sender == Sender(UNROUTED)
    assert route(message("in/..%2f"), routes).sender == Sender(UNROUTED)
    for wrong in (("gateway-time", "yesterday"), ("device", "a b|c"), ("gateway-id", "a\tb")):
        fault = route(message("in/cgm", wrong), routes).fault
        assert fault is not None
        assert fault.reason is QuarantineReason.MALFORMED
    long = route(message("in/cgm", payload=b"x" * 10, length=10**7), routes).fault
    assert long is not None
    assert "10000000 bytes" in long.detail
