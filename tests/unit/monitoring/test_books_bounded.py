"""A full book forgets what was not asked for the longest, and no more."""

from datetime import UTC, datetime

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring.assignment import DeviceRecord, PatientRecord
from fhir_server.core.monitoring.assignment_book import AssignmentBook
from fhir_server.core.monitoring.watch_book import UNWATCHED, WatchBook
from fhir_server.core.version import Version
from fhir_server.operations import followed_book
from fhir_server.operations.followed_book import FollowedBook

TOKENS = [IdentifierToken("serial", str(number)) for number in range(8)]
DEVICES = [ResourceKey("Device", str(number)) for number in range(8)]
PATIENTS = [ResourceKey("Patient", str(number)) for number in range(8)]
GOALS = [ResourceKey("Goal", str(number)) for number in range(8)]


def known(patients=8):
    book = WatchBook()
    for patient, goal in zip(PATIENTS[:patients], GOALS, strict=False):
        book.learn(patient, UNWATCHED, [goal])
    return book


def test_devices_that_were_asked_for_last_stay():
    book = AssignmentBook()
    for token, device, patient in zip(TOKENS, DEVICES, PATIENTS, strict=True):
        book.learn_token(token, [device])
        book.learn_device(device, DeviceRecord(device, (token,), False))
        book.learn_patient(patient, PatientRecord(patient, (), ()))
    assert book.unknown_tokens(TOKENS[:2]) == ()
    assert book.unknown_devices(TOKENS[:2]) == ()
    book.trim(8)
    assert len(book) == 8
    assert book.unknown_tokens(TOKENS) == tuple(TOKENS[2:6])
    kept = [token for token in TOKENS if token not in TOKENS[2:6]]
    assert book.unknown_devices(kept) == ()
    assert book.named(TOKENS[0]) == (DeviceRecord(DEVICES[0], (TOKENS[0],), False),)


def test_patients_that_were_asked_for_last_stay_watched():
    book = known()
    assert book.get(PATIENTS[0]) is UNWATCHED
    book.trim(3)
    assert [p for p in PATIENTS if book.get(p)] == [PATIENTS[0], PATIENTS[6], PATIENTS[7]]


def test_a_change_to_what_is_kept_is_still_noticed_after_a_trim():
    book = known()
    book.trim(3)
    body = resource_json.format({"resourceType": "Goal", "subject": {"reference": "Patient/x"}})
    now = datetime(2024, 3, 10, tzinfo=UTC)
    book.forget([Version(goal, 2, now, "update", body, 9) for goal in (GOALS[0], GOALS[7])])
    assert [p for p in PATIENTS if book.get(p)] == PATIENTS[5:7]


class Quiet:
    """A transaction of a store where nothing is written."""

    def changes(self, _after, _resource_types):
        return 5, ()


def test_a_book_never_grows_beyond_its_bound_and_what_one_decision_asks(monkeypatch):
    monkeypatch.setattr(followed_book, "_MOST_ENTRIES", 4)
    followed = FollowedBook(WatchBook, ("Goal",))
    followed.confirm(5)
    sizes = []
    for _ in range(3):
        for patient, goal in zip(PATIENTS, GOALS, strict=True):
            book, _ = followed.view(Quiet())
            if book.get(patient) is None:
                book.learn(patient, UNWATCHED, [goal])
            assert book.get(patient) is UNWATCHED
            sizes.append(len(book))
    assert max(sizes) == 5
    # It was never begun anew.
    assert min(sizes[4:]) >= 3
