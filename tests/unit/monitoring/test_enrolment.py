from decimal import Decimal

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.prescription import (
    Activity,
    Coding,
    Limits,
    Person,
    PrescribedDevice,
    Prescription,
    Timing,
)
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring import enrolment
from fhir_server.definitions import load

LOINC = "http://loinc.org"
PATIENT = ResourceKey("Patient", "p")
DEVICE = ResourceKey("Device", "d")
GOALS = [ResourceKey("Goal", "g0"), ResourceKey("Goal", "g1"), ResourceKey("Goal", "g2")]

PANEL = Coding(LOINC, "85354-9", "Blood pressure panel with all children optional")
SYSTOLIC = Coding(LOINC, "8480-6", "Systolic blood pressure")
GLUCOSE = Coding(LOINC, "14743-9")

ORDER = Prescription(
    identifier=IdentifierToken("https://clinic.example/orders", "17"),
    plan="hypertension",
    start="2024-03-10T09:00:00+03:00",
    end="2024-09-10",
    patient=Person(
        (IdentifierToken("https://fhir.ru/ig/core/systems/snils", "11223344595"),),
        family="Testova",
        given=("Anna", "Ivanovna"),
        birth_date="1960-05",
        gender="female",
        phone="+7 000 000-00-00",
    ),
    devices=(
        PrescribedDevice(
            (IdentifierToken("https://maker.example/serial", "bp-1"),),
            "blood-pressure-cuff",
            (Coding("urn:iso:std:iso:11073:10101", "528391"),),
            name="Cuff",
            manufacturer="Maker",
            model="M1",
        ),
        PrescribedDevice(
            (IdentifierToken("https://maker.example/serial", "br-1"),),
            "bracelet",
            (),
            is_auxiliary=True,
        ),
    ),
    activities=(
        Activity(
            "blood-pressure",
            (PANEL,),
            Timing(2, Decimal(1), "d", times_of_day=("08:00:00", "20:00:00")),
            "twice a day",
        ),
        Activity("glucose", (GLUCOSE,), Timing(1, Decimal("0.5"), "d", when=("ACM",))),
        Activity("weight", (Coding(LOINC, "29463-7"),)),
    ),
    limits=(
        Limits("blood-pressure.systolic", (SYSTOLIC,), "mm[Hg]", Decimal(90), Decimal(135)),
        Limits("glucose", (GLUCOSE,), "mmol/L", None, Decimal("7.0")),
        Limits("glucose", (GLUCOSE,), "mmol/L", Decimal("3.9")),
    ),
    title="Pressure at home",
    physician=Person((IdentifierToken("https://clinic.example/staff", "9"),), "Vrach"),
    note="Sit for five minutes before.",
)
BARE = Prescription(
    IdentifierToken(None, "18"),
    "diabetes",
    "2024",
    Person((IdentifierToken("mrn", "1"),)),
    (PrescribedDevice((IdentifierToken("s", "1"),), "scale", ()),),
)


@pytest.fixture(scope="module")
def validator():
    return load().validator


@pytest.mark.parametrize("order", [ORDER, BARE], ids=["full", "bare"])
def test_what_an_order_makes_keeps_the_rules_of_its_types(validator, order):
    goals = GOALS[: len(order.limits)]
    made = [
        enrolment.patient(order.patient),
        *(enrolment.device(device) for device in order.devices),
        enrolment.device_use_statement(order, 0, PATIENT, DEVICE),
        *(enrolment.goal(order, index, PATIENT) for index in range(len(order.limits))),
        enrolment.care_plan(order, PATIENT, goals),
    ]
    for resource in made:
        assert validator.check(resource) == (), resource["resourceType"]


def test_the_assignment_lasts_as_long_as_the_order():
    statement = enrolment.device_use_statement(ORDER, 1, PATIENT, DEVICE)
    assert statement["timingPeriod"] == {
        "start": "2024-03-10T09:00:00+03:00",
        "end": "2024-09-10",
    }
    assert statement["subject"] == {"reference": "Patient/p"}
    assert statement["device"] == {"reference": "Device/d"}


def test_only_an_unregistered_device_is_tagged_auxiliary():
    cuff, bracelet = (enrolment.device(device) for device in ORDER.devices)
    assert "tag" not in cuff["meta"]
    assert bracelet["meta"]["tag"][0]["code"] == "auxiliary"


def test_an_activity_says_what_how_often_and_within_which_goals():
    plan = enrolment.care_plan(ORDER, PATIENT, GOALS)
    pressure, glucose, weight = (activity["detail"] for activity in plan["activity"])
    assert pressure["code"]["coding"][0]["code"] == "85354-9"
    assert pressure["scheduledTiming"]["repeat"] == {
        "frequency": 2,
        "period": Decimal(1),
        "periodUnit": "d",
        "timeOfDay": ["08:00:00", "20:00:00"],
    }
    assert pressure["goal"] == [{"reference": "Goal/g0"}]
    assert glucose["goal"] == [{"reference": "Goal/g1"}, {"reference": "Goal/g2"}]
    assert "goal" not in weight
    assert plan["goal"] == [{"reference": str(key)} for key in GOALS]


def test_two_limits_are_a_range_and_one_is_a_quantity_with_its_side():
    both, high, low = (enrolment.goal(ORDER, i, PATIENT)["target"][0] for i in range(3))
    assert both["detailRange"]["low"]["value"] == 90
    assert both["detailRange"]["high"]["code"] == "mm[Hg]"
    assert (high["detailQuantity"]["comparator"], str(high["detailQuantity"]["value"])) == (
        "<=",
        "7.0",
    )
    assert low["detailQuantity"]["comparator"] == ">="


def test_what_an_order_makes_is_found_by_the_orders_number_alone():
    renewed = ORDER._replace(title="other", limits=())
    other = ORDER._replace(identifier=IdentifierToken("https://clinic.example/orders", "18"))
    name = enrolment.enrolment_identifier(ORDER, "plan")
    assert enrolment.enrolment_identifier(renewed, "plan") == name
    assert enrolment.enrolment_identifier(other, "plan") != name
    assert enrolment.enrolment_identifier(ORDER, "goal.0") != name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (IdentifierToken("a", "bc"), IdentifierToken("ab", "c")),
        (IdentifierToken(None, "x"), IdentifierToken("", "x")),
    ],
)
def test_numbers_of_orders_are_not_run_together(one, other):
    assert enrolment.enrolment_identifier(
        ORDER._replace(identifier=one), "plan"
    ) != enrolment.enrolment_identifier(ORDER._replace(identifier=other), "plan")


def test_content_is_the_same_however_its_numbers_are_written():
    limits = (ORDER.limits[0]._replace(low=Decimal("90.0")), *ORDER.limits[1:])
    assert enrolment.content_digest(ORDER._replace(limits=limits)) == enrolment.content_digest(
        ORDER
    )


def test_another_limit_is_another_content():
    limits = (ORDER.limits[0]._replace(low=Decimal(91)), *ORDER.limits[1:])
    assert enrolment.content_digest(ORDER._replace(limits=limits)) != enrolment.content_digest(
        ORDER
    )


def test_the_plan_remembers_the_content_that_made_it():
    plan = enrolment.care_plan(ORDER, PATIENT, GOALS)
    assert enrolment.content_of(plan) == enrolment.content_digest(ORDER)
