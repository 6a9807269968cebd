"""Measurements wait until the registry knows their Patient's new identifier."""

from datetime import UTC, datetime

import pytest

from adapters.national_registry.patient import POLICY_SYSTEM, SNILS_SYSTEM
from adapters.national_registry.precedence import check_told
from adapters.national_registry.translate import Rules
from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import Version
from fhir_server.errors import DeliveryPending, DeliveryRejected

KEY = ResourceKey("Patient", "p")
NOW = datetime(2024, 5, 1, tzinfo=UTC)


def patient(system, value, **elements):
    return {
        "resourceType": "Patient",
        "identifier": [{"system": system, "value": value}],
        **elements,
    }


POLICY = patient(POLICY_SYSTEM, "1")
SNILS = patient(SNILS_SYSTEM, "2")


def check(*bodies, told=None, reached=100):
    """Versions 1, 2, … of the Patient at the sequences 10, 20, …"""
    versions = [
        Version(
            KEY,
            number,
            NOW,
            "update" if body else "delete",
            resource_json.format(body) if body else None,
            number * 10,
        )
        for number, body in enumerate(bodies, start=1)
    ]
    check_told(
        versions[-1],
        reached,
        lambda key, version_id=None: versions[version_id - 1],
        (told or {}).get,
        Rules(),
    )


@pytest.mark.parametrize("state", ["queued", "sent"])
def test_what_is_measured_waits_for_a_new_identifier_under_way(state):
    with pytest.raises(DeliveryPending):
        check(POLICY, SNILS, told={20: state})


def test_a_change_that_has_no_delivery_yet_is_waited_for():
    with pytest.raises(DeliveryPending):
        check(POLICY, SNILS, reached=15)


@pytest.mark.parametrize("state", ["parked", "rejected"])
def test_a_new_identifier_that_was_not_taken_stops_what_is_measured(state):
    with pytest.raises(DeliveryRejected):
        check(POLICY, SNILS, told={20: state})


@pytest.mark.parametrize("state", ["accepted", "registered", "superseded"])
def test_what_was_told_holds_up_nothing(state):
    check(POLICY, SNILS, told={20: state})


def test_a_change_from_before_the_receivers_begin_holds_up_nothing():
    check(POLICY, SNILS, reached=25)


def test_the_change_of_the_identifier_counts_and_not_a_later_one_of_the_name():
    renamed = {**SNILS, "gender": "female"}
    check(POLICY, SNILS, renamed, told={20: "accepted", 30: "queued"})
    with pytest.raises(DeliveryPending):
        check(POLICY, SNILS, renamed, told={20: "queued"})


def test_another_name_alone_holds_up_nothing():
    check(SNILS, {**SNILS, "gender": "female"}, told={20: "queued"})


def test_a_deletion_between_is_no_change():
    check(SNILS, None, POLICY)
