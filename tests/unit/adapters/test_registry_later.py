"""A registry that answers later, and Patients that change: what is sent and what is asked."""

from datetime import UTC, datetime

import pytest

from adapters.national_registry import acknowledgement
from adapters.national_registry.client import AnswerLost, Later
from adapters.national_registry.sink import NationalRegistrySink
from adapters.national_registry.translate import Rules
from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from fhir_server.core.version import Version, next_version
from fhir_server.errors import DeliveryPending, DeliveryRejected

NOW = datetime(2024, 5, 1, tzinfo=UTC)
SNILS = "https://fhir.ru/ig/core/systems/snils"


class Records:
    """Versions in memory, read and put as the store does it."""

    now = NOW

    def __init__(self):
        self.versions = {}

    def add(self, key, body):
        version, _ = next_version(self.read(key), key, body, NOW)
        self.put(version, body)
        return version

    def put(self, version, _resource):
        self.versions.setdefault(version.key, []).append(version)

    def read(self, key, version_id=None):
        found = self.versions.get(key, [None])
        return found[-1 if version_id is None else version_id - 1]

    def commit(self, decide):
        return decide(self)


class Registry:
    """Answers as it is told; notes what it was sent and asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.sent = []
        self.asked = []

    def transact(self, bundle, idempotency_key):
        self.sent.append((len(bundle["entry"]), idempotency_key))
        return self.next()

    def ask(self, url, entries):
        self.asked.append((url, entries))
        return self.next()

    def next(self):
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def records():
    made = Records()
    identifier = [{"system": SNILS, "value": "11223344595"}]
    made.add(ResourceKey("Patient", "p"), {"resourceType": "Patient", "identifier": identifier})
    return made


def sink(records, *answers, state=None):
    registry = Registry(*answers)
    made = NationalRegistrySink(
        "r", registry, records.read, lambda *_: state, records.commit, Rules(), 10
    )
    return made, registry


def reading(records, number):
    return records.add(
        ResourceKey("Observation", f"o{number}"),
        {
            "resourceType": "Observation",
            "identifier": [{"system": IDENTIFIER_SYSTEM, "value": f"r{number}"}],
            "subject": {"reference": "Patient/p"},
            "effectiveDateTime": "2024-05-01T08:00:00Z",
        },
    )


LATER = Later("https://registry.example/answers/1", 7.0)
PENDING = DeliveryPending("at work", 3.0)


def test_a_transaction_that_is_answered_later_is_asked_for_and_not_sent_again(records):
    delivering, registry = sink(records, LATER, PENDING, "receipt")
    versions = [reading(records, 1), reading(records, 2)]
    with pytest.raises(DeliveryPending) as pending:
        delivering.deliver(versions, "k")
    assert pending.value.retry_after == 7.0
    with pytest.raises(DeliveryPending):
        delivering.deliver(versions, "k")
    assert delivering.deliver(versions, "k") == "receipt"
    assert registry.sent == [(3, "k")]
    assert registry.asked == [(LATER.url, 3), (LATER.url, 3)]


def test_what_joined_meanwhile_goes_by_itself_with_a_key_of_its_own(records):
    delivering, registry = sink(records, LATER, "first", "second")
    versions = [reading(records, 1), reading(records, 2)]
    with pytest.raises(DeliveryPending):
        delivering.deliver(versions, "k")
    assert delivering.deliver([*versions, reading(records, 3)], "k2") == "first second"
    assert [entries for entries, _ in registry.sent] == [3, 2]
    assert registry.sent[1][1] not in ("k", "k2")


def test_an_answer_that_came_is_not_asked_for_again_when_what_joined_is_pending(records):
    delivering, registry = sink(records, LATER, "first", LATER, "second")
    versions = [reading(records, 1)]
    for _ in range(2):
        with pytest.raises(DeliveryPending):
            delivering.deliver(versions, "k")
        if len(versions) == 1:
            versions.append(reading(records, 2))
    assert delivering.deliver(versions, "k") == "first second"
    assert (len(registry.sent), len(registry.asked)) == (2, 2)


def test_a_smaller_batch_than_was_sent_is_sent_anew(records):
    delivering, registry = sink(records, LATER, "receipt")
    versions = [reading(records, 1), reading(records, 2)]
    with pytest.raises(DeliveryPending):
        delivering.deliver(versions, "k")
    assert delivering.deliver(versions[:1], "k1") == "receipt"
    assert (len(registry.sent), registry.asked) == (2, [])


def test_what_was_lost_is_sent_again(records):
    delivering, registry = sink(records, LATER, AnswerLost(), "receipt")
    versions = [reading(records, 1)]
    for _ in range(2):
        with pytest.raises(DeliveryPending):
            delivering.deliver(versions, "k")
    assert delivering.deliver(versions, "k") == "receipt"
    assert len(registry.sent) == 2


def test_a_late_refusal_is_one_and_can_be_sent_again(records):
    delivering, registry = sink(records, LATER, DeliveryRejected("no"), "receipt")
    versions = [reading(records, 1)]
    with pytest.raises(DeliveryPending):
        delivering.deliver(versions, "k")
    with pytest.raises(DeliveryRejected):
        delivering.deliver(versions, "k")
    assert delivering.deliver(versions, "k") == "receipt"
    assert len(registry.sent) == 2


def test_an_altered_note_counts_as_none(records):
    version = reading(records, 1)
    task = acknowledgement.task([version], "https://registry.example/a", 1)
    assert acknowledgement.awaited(task).covered == {"Observation/o1/_history/1"}
    assert acknowledgement.awaited({**task, "input": []}) is None
    assert acknowledgement.awaited(acknowledgement.closed(task, "failed", "x")) is None


def change(records, **elements):
    key = ResourceKey("Patient", "p")
    before = records.read(key).resource()
    return records.add(key, {**before, **elements})


def test_a_patient_whose_name_changed_is_told_by_the_identifier_it_was_known_by(records):
    delivering, registry = sink(records)
    new = {"system": SNILS, "value": "17400354229"}
    version = change(records, name=[{"family": "Petrova"}], identifier=[new])
    assert delivering.group(version) == "Patient/p"
    bundle = delivering._bundle([version])
    (entry,) = bundle["entry"]
    assert entry["request"] == {
        "method": "PUT",
        "url": f"Patient?identifier={SNILS}|11223344595",
    }
    assert entry["resource"]["identifier"] == [new]
    assert registry.sent == []


def test_a_patient_that_is_new_deleted_or_changed_in_what_stays_here_is_not_told(records):
    delivering, _ = sink(records)
    key = ResourceKey("Patient", "p")
    assert delivering.group(records.read(key)) is None
    assert delivering.group(change(records, telecom=[{"value": "1"}])) is None
    gone = Version(key, 3, NOW, "delete", None)
    records.put(gone, None)
    assert delivering.group(gone) is None
    assert delivering.group(records.add(key, {"resourceType": "Patient"})) is None


def test_changes_that_cancel_out_are_not_told(records):
    delivering, _ = sink(records)
    one = change(records, gender="male")
    two = change(records, gender=None)
    body = {k: v for k, v in two.resource().items() if v is not None}
    two = Version(two.key, 3, NOW, "update", resource_json.format(body))
    assert delivering.deliver([one, two], "k") == "nothing to tell"


def test_a_measurement_does_not_overtake_its_patients_new_identifier(records):
    measured = reading(records, 1)
    renamed = {"resourceType": "Patient", "identifier": [{"system": SNILS, "value": "2"}]}
    records.add(ResourceKey("Patient", "p"), renamed)
    waiting, registry = sink(records, state="queued")
    with pytest.raises(DeliveryPending):
        waiting.deliver([measured], "key")
    assert registry.sent == []
    told, registry = sink(records, "receipt", state="accepted")
    assert told.deliver([measured], "key") == "receipt"
    assert registry.sent == [(2, "key")]
