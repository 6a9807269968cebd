from datetime import UTC, datetime

import pytest

from fhir_server.core import date_range, resource_json
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import Fault, IdentifierToken, QuarantineReason, Reading
from fhir_server.core.monitoring.assignment import Assignment, DeviceRecord, PatientRecord, Plan
from fhir_server.core.monitoring.assignment_book import AssignmentBook
from fhir_server.core.monitoring.place import Placed, place
from fhir_server.core.version import Version

NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
DEVICE = ResourceKey("Device", "d")
PATIENT = ResourceKey("Patient", "a")
STATEMENT = ResourceKey("DeviceUseStatement", "s")
PLAN = ResourceKey("CarePlan", "p")
TOKEN = IdentifierToken("serial", "1")
ALWAYS = DateRange(EARLIEST, LATEST)


def changed(key, **resource):
    body = resource_json.format({"resourceType": key.resource_type, **resource})
    return Version(key, 2, NOON, "update", body, 7)


def deleted(key):
    return Version(key, 2, NOON, "delete", None, 7)


@pytest.fixture
def book():
    book = AssignmentBook()
    assignment = Assignment(STATEMENT, PATIENT, ALWAYS, LATEST)
    alias = IdentifierToken("alias", "2")
    book.learn_token(TOKEN, [DEVICE])
    book.learn_device(DEVICE, DeviceRecord(DEVICE, (TOKEN, alias), False, (assignment,)))
    plan = Plan(PLAN, ALWAYS, frozenset({("http://loinc.org", "1")}))
    book.learn_patient(PATIENT, PatientRecord(PATIENT, (IdentifierToken("mrn", "7"),), (plan,)))
    return book


def reading(device=TOKEN, patient=None):
    return Reading("weight", device, patient, "t", NOON, NOON.isoformat(), ())


def test_a_reading_is_placed_with_who_had_the_device(book):
    placed = place(reading(), book)
    assert isinstance(placed, Placed)
    assert placed.placement.patient == PATIENT
    assert placed.placement.device_identifier == TOKEN
    assert placed.aliases == (IdentifierToken("alias", "2"),)
    assert placed.instant == date_range.from_datetime(NOON)


def test_a_reading_that_names_the_holder_is_placed(book):
    assert isinstance(place(reading(patient=IdentifierToken("mrn", "7")), book), Placed)


def reason(outcome):
    assert isinstance(outcome, Fault)
    return outcome.reason


def test_a_reading_that_names_somebody_else_is_not_placed(book):
    other = IdentifierToken("mrn", "8")
    assert reason(place(reading(patient=other), book)) is QuarantineReason.PATIENT_MISMATCH


def test_a_reading_of_no_device_is_not_placed(book):
    assert reason(place(reading(device=None), book)) is QuarantineReason.DEVICE_MISSING


def test_a_device_that_is_not_there_places_nothing(book):
    token = IdentifierToken(None, "2")
    book.learn_token(token, [])
    assert reason(place(reading(token), book)) is QuarantineReason.DEVICE_UNKNOWN


def test_a_value_that_two_devices_have_places_nothing(book):
    other = ResourceKey("Device", "e")
    token = IdentifierToken(None, "1")
    book.learn_token(token, [DEVICE, other])
    book.learn_device(other, DeviceRecord(other, (IdentifierToken("other", "1"),), False))
    assert reason(place(reading(token), book)) is QuarantineReason.DEVICE_AMBIGUOUS


def test_a_device_entered_in_error_does_not_make_a_value_ambiguous(book):
    other = ResourceKey("Device", "e")
    token = IdentifierToken(None, "1")
    book.learn_token(token, [DEVICE, other])
    book.learn_device(other, None)
    assert isinstance(place(reading(token), book), Placed)


def test_a_device_that_nobody_had_places_nothing(book):
    book.learn_device(DEVICE, DeviceRecord(DEVICE, (TOKEN,), False))
    assert reason(place(reading(), book)) is QuarantineReason.DEVICE_NOT_ASSIGNED


def test_an_overlap_of_two_patients_places_nothing(book):
    two = tuple(
        Assignment(STATEMENT, ResourceKey("Patient", name), ALWAYS, LATEST) for name in "ab"
    )
    book.learn_device(DEVICE, DeviceRecord(DEVICE, (TOKEN,), False, two))
    assert reason(place(reading(), book)) is QuarantineReason.ASSIGNMENT_AMBIGUOUS


def test_an_assignment_to_a_patient_who_was_deleted_places_nothing(book):
    book.learn_patient(PATIENT, None)
    assert reason(place(reading(), book)) is QuarantineReason.DEVICE_NOT_ASSIGNED


def unknown(book):
    """What has to be looked up again, level by level."""
    if tokens := book.unknown_tokens([TOKEN]):
        return tokens
    return book.unknown_devices([TOKEN]) or book.unknown_patients([TOKEN])


@pytest.mark.parametrize(
    ("change", "forgotten"),
    [
        (changed(DEVICE, identifier=[{"value": "9"}]), TOKEN),
        (deleted(DEVICE), TOKEN),
        (changed(ResourceKey("Device", "new"), identifier=[{"value": "1"}]), TOKEN),
        (changed(STATEMENT, device={"reference": "Device/elsewhere"}), TOKEN),
        (deleted(STATEMENT), TOKEN),
        (
            changed(ResourceKey("DeviceUseStatement", "new"), device={"reference": "Device/d"}),
            TOKEN,
        ),
        (changed(PATIENT, identifier=[]), PATIENT),
        (deleted(PATIENT), PATIENT),
        (changed(PLAN, subject={"reference": "Patient/elsewhere"}), PATIENT),
        (deleted(PLAN), PATIENT),
        (
            changed(ResourceKey("CarePlan", "new"), subject={"reference": "Patient/a"}),
            PATIENT,
        ),
    ],
)
def test_a_change_is_forgotten_with_all_that_hung_on_it(book, change, forgotten):
    assert unknown(book) == ()
    book.forget([change])
    assert forgotten in (*unknown(book), *book.unknown_tokens([TOKEN])) or (
        book.unknown_devices([TOKEN]) == (DEVICE,)
    )


@pytest.mark.parametrize(
    "change",
    [
        changed(ResourceKey("Device", "other"), identifier=[{"value": "other"}]),
        deleted(ResourceKey("DeviceUseStatement", "other")),
        changed(ResourceKey("Patient", "other")),
        deleted(ResourceKey("CarePlan", "other")),
    ],
)
def test_what_a_change_is_not_about_stays_known(book, change):
    book.forget([change])
    assert unknown(book) == ()


def test_an_unknown_device_is_looked_up_again_when_one_with_that_value_comes(book):
    token = IdentifierToken(None, "5")
    book.learn_token(token, [])
    book.forget([changed(ResourceKey("Device", "n"), identifier=[{"system": "x", "value": "5"}])])
    assert book.unknown_tokens([token]) == (token,)


def test_what_a_copy_forgets_and_learns_the_original_does_not_notice(book):
    copy = book.copy()
    copy.forget([deleted(DEVICE), deleted(PATIENT)])
    copy.learn_token(IdentifierToken(None, "5"), [])
    assert unknown(book) == ()
    assert book.unknown_tokens([IdentifierToken(None, "5")])
