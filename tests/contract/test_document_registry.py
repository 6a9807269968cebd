"""Documents of care plans on either store: when each is due, and what becomes of it."""

import base64
from datetime import timedelta

import pytest

from adapters.national_registry.documents import desk, document, registration
from adapters.national_registry.documents.compose import House
from adapters.national_registry.documents.content import Kind
from adapters.national_registry.documents.faults import RegistryError
from adapters.national_registry.documents.parties import Author, Name, Organization
from adapters.national_registry.documents.planning import Policy
from adapters.national_registry.documents.result import Result
from adapters.national_registry.documents.signer import KeyPair
from adapters.national_registry.documents.sink import DocumentRegistrySink, Keys, Patience
from adapters.national_registry.documents.soap import Answer
from adapters.national_registry.documents.xml_tree import read
from adapters.national_registry.port import Surroundings
from fhir_server.core.identity import ResourceKey
from fhir_server.errors import DeliveryDeferred, DeliveryPending, DeliveryRejected
from tests.faults.registry_scene import patient, plan, reading

PLAN = ResourceKey("CarePlan", "p")
AUTHOR = Author("1", "17400354229", Name("Орлова", "Марина"))
HOUSE = House(Organization("1.2.3", "Клиника"), AUTHOR)
SUCCESS = Answer(True, ())


class Registry:
    """Answers as it is told; notes what it was sent."""

    def __init__(self):
        self.answers = []
        self.sent = []
        self.entry = None

    def register(self, request, message_id):
        self.sent.append((read(request.replace(b"ser:", b"")), message_id))
        answer = self.answers.pop(0) if self.answers else SUCCESS
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def find(self, local_uid, organization, message_id):
        return self.entry


class Stamp:
    """A signer whose signatures differ each time, as real ones do."""

    def __init__(self):
        self.count = 0

    def sign(self, content, pair):
        self.count += 1
        return f"{pair.key}{self.count}{len(content)}".encode()


class Scene:
    def __init__(self, driver, report_days=0, kinds=tuple(Kind), house=HOUSE):
        self.driver = driver
        self.registry = Registry()
        around = Surroundings(
            driver.outbox.read,
            driver.outbox.state_of,
            driver.outbox.commit,
            driver.parameters,
            driver.clock,
        )
        keys = Keys({AUTHOR.snils: KeyPair("c", "doctor")}, KeyPair("c", "house"))
        policy = Policy(frozenset(kinds), report_days, "Europe/Moscow")
        patience = Patience(timedelta(days=15), 1e-9)
        self.sink = DocumentRegistrySink(
            self.registry, Stamp(), keys, house, policy, patience, around
        )

    def enrol(self, status="active", **elements):
        body = plan("p", status) | elements
        body.pop("author")
        self.driver.write(patient("p", "11223344595"), body)
        return self.tell()

    def tell(self):
        return self.sink.deliver([self.driver.read(PLAN)], "k")

    def tasks(self):
        found = self.driver.search("Task?code=document-registration&_sort=_id").versions
        tasks = [version.resource() for version in found]
        return sorted(
            tasks,
            key=lambda task: (registration.kind_of(task), task["input"][1]["valuePeriod"]["start"]),
        )

    def told(self):
        return [
            (
                registration.kind_of(task).name,
                *task["input"][1]["valuePeriod"].values(),
                registration.state_of(task),
            )
            for task in self.tasks()
        ]

    def send_all(self):
        """Deliver what the outbox would."""
        receipts = []
        for task in self.tasks():
            version = self.driver.read(ResourceKey("Task", task["id"]))
            if self.sink.group(version):
                receipts.append(self.sink.deliver([version], "k"))
        return receipts

    def answer(self, is_success=True, errors=(), relates_to=None, raw=b"raw"):
        (task,) = self.tasks()
        message = relates_to or registration.message_ids(task)[-1]
        said = Result(message, "", is_success, "emdr", "", errors)
        return self.driver.commit(lambda tx: desk.take_result(tx, said, raw))


@pytest.fixture
def referral(driver):
    """A referral that the registry has accepted."""
    scene = Scene(driver, kinds=(Kind.REFERRAL,))
    scene.enrol()
    scene.sink.attend()
    assert [each.split()[0] for each in scene.send_all()] == ["accepted"]
    return scene


def test_an_active_plan_asks_for_a_referral_once(driver):
    scene = Scene(driver)
    for _ in range(2):
        scene.enrol()
    assert scene.told() == [("REFERRAL", "2024-05-01", "2024-05-07", "planned")]


def test_a_period_that_ended_is_reported_and_the_next_one_planned(driver):
    scene = Scene(driver, report_days=3, kinds=(Kind.PROTOCOL,))
    scene.enrol()
    assert scene.told() == [("PROTOCOL", "2024-05-01", "2024-05-03", "planned")]
    scene.sink.attend()
    assert scene.told() == [("PROTOCOL", "2024-05-01", "2024-05-03", "planned")]
    driver.clock.advance(3 * 86_400)
    scene.sink.attend()
    assert scene.told() == [
        ("PROTOCOL", "2024-05-01", "2024-05-03", "queued"),
        ("PROTOCOL", "2024-05-04", "2024-05-06", "planned"),
    ]
    driver.clock.advance(30 * 86_400)
    for _ in range(3):
        scene.sink.attend()
    assert scene.told()[1:] == [
        ("PROTOCOL", "2024-05-04", "2024-05-06", "queued"),
        ("PROTOCOL", "2024-05-07", "2024-05-07", "queued"),
    ]


def test_a_completed_plan_is_reported_up_to_its_end(driver):
    scene = Scene(driver, report_days=5, kinds=(Kind.PROTOCOL,))
    scene.enrol()
    driver.clock.advance(86_400)
    scene.enrol("completed")
    scene.sink.attend()
    assert scene.told() == [("PROTOCOL", "2024-05-01", "2024-05-02", "queued")]


@pytest.mark.parametrize("status", ["revoked", "entered-in-error"])
def test_what_was_only_planned_of_a_plan_that_is_revoked_is_cancelled(driver, status):
    scene = Scene(driver, report_days=5, kinds=(Kind.PROTOCOL,))
    scene.enrol()
    scene.enrol(status)
    assert scene.told() == [("PROTOCOL", "2024-05-01", "2024-05-05", "cancelled")]


def test_an_attempt_that_broke_off_is_looked_for_and_then_sent_as_it_was(driver):
    scene = Scene(driver, kinds=(Kind.REFERRAL,))
    scene.enrol()
    scene.sink.attend()
    scene.registry.answers = [DeliveryDeferred("cut"), SUCCESS]
    with pytest.raises(DeliveryDeferred):
        scene.send_all()
    (task,) = scene.tasks()
    version = driver.read(ResourceKey("Task", task["id"]))
    assert scene.sink.deliver([version], "k").startswith("accepted ")
    (first, one), (second, two) = scene.registry.sent
    assert first.text_of("checksum") == second.text_of("checksum")
    assert first.text_of("localUid") == second.text_of("localUid")
    assert one != two
    assert registration.message_ids(scene.tasks()[0]) == (one, two)


def test_a_document_that_is_there_is_not_sent_again(driver):
    scene = Scene(driver, kinds=(Kind.REFERRAL,))
    scene.enrol()
    scene.sink.attend()
    scene.registry.answers = [Answer(False, (RegistryError("NOT_UNIQUE_PROVIDED_ID"),))]
    scene.registry.entry = Answer(True, (), "emdr-1", "")
    assert scene.send_all() == ["registered before as emdr-1"]
    assert scene.told()[0][-1] == "registered"


def test_a_fault_of_one_document_holds_up_no_other(driver):
    scene = Scene(driver, kinds=(Kind.REFERRAL,))
    scene.enrol()
    scene.sink.attend()
    scene.registry.answers = [Answer(False, (RegistryError("CA_UNAVAILABLE"),))]
    with pytest.raises(DeliveryPending):
        scene.send_all()


def test_what_is_missing_here_is_said_with_its_path(driver):
    scene = Scene(driver, kinds=(Kind.REFERRAL,), house=HOUSE._replace(author=None))
    scene.enrol()
    scene.sink.attend()
    with pytest.raises(DeliveryRejected, match=r"CarePlan\.author"):
        scene.send_all()
    assert scene.registry.sent == []


def test_the_document_that_is_kept_is_valid_fhir(referral):
    (task,) = referral.tasks()
    uid = registration.document_uid(task)
    keys = (document.reference_key(uid), *document.part_keys(uid))
    found = [referral.driver.read(key).resource() for key in keys]
    for resource in (task, *found):
        assert referral.driver.definitions.validator.check(resource) == ()


def test_any_message_of_a_document_finds_it_but_only_the_newest_may_refuse(referral):
    (task,) = referral.tasks()
    newest = registration.message_ids(task)[-1]
    errors = (RegistryError("NO_SNILS"),)
    known = newest.removeprefix("urn:uuid:")
    assert referral.answer(False, errors, relates_to="urn:uuid:of-nobody") is None
    assert referral.answer(False, errors, relates_to=known) == "rejected"
    assert referral.answer(False, errors, raw=b"again") is None
    aside = referral.driver.search("Task?code=registry-message").versions
    reasons = {v.resource()["businessStatus"]["coding"][0]["code"] for v in aside}
    assert reasons == {"unknown-document", "overtaken"}


def test_a_late_success_counts_and_an_error_after_it_does_not(referral):
    assert referral.answer() == "registered"
    assert referral.answer(False, (RegistryError("NO_SNILS"),)) is None
    assert referral.told()[0][-1] == "registered"


def test_a_fault_that_may_pass_is_sent_again_when_its_time_has_come(referral):
    assert referral.answer(False, (RegistryError("MIS_NOT_AVAILABLE"),)) == "queued"
    referral.sink.attend()
    assert referral.send_all() == []
    referral.driver.clock.advance(301)
    referral.sink.attend()
    assert [each.split()[0] for each in referral.send_all()] == ["accepted"]
    first, second = (request.text_of("localUid") for request, _ in referral.registry.sent)
    assert first == second


def test_silence_ends_as_no_response_unless_the_registry_has_the_document(referral):
    referral.driver.clock.advance(14 * 86_400)
    referral.sink.attend()
    assert referral.told()[0][-1] == "accepted"
    referral.driver.clock.advance(2 * 86_400)
    referral.sink.attend()
    assert referral.told()[0][-1] == "no-response"
    assert referral.answer() == "registered"


def test_a_protocol_counts_the_readings_of_its_period(driver):
    scene = Scene(driver, kinds=(Kind.PROTOCOL,))
    outside = reading("p", 99) | {"effectiveDateTime": "2024-06-01T08:00:00+03:00"}
    driver.clock.advance(10 * 86_400)
    driver.write(*(reading("p", n) for n in range(3)), outside)
    scene.enrol("completed")
    scene.sink.attend()
    scene.send_all()
    uid = registration.document_uid(scene.tasks()[0])
    key = document.part_key(uid, document.FILE)
    file = base64.b64decode(driver.read(key).resource()["data"])
    cells = [node.text for node in read(file).walk() if node.name == "td"]
    at = cells.index("Систолическое артериальное давление")
    assert cells[at : at + 7] == [cells[at], "mmHg", "3", "3", "121.0", "120", "122"]
    assert cells[cells.index("14") - 1 :][:4] == ["Артериальное давление", "14", "3", "21 %"]
