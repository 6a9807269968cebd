"""What decisions are told of assignments is what the store says, whatever was rolled back.

The model keeps versions in lists and searches them one by one. A group of decisions
commits or is lost together, sequences are used again after a loss, another process
commits in between, and the news of a commit may come late.
"""

from datetime import UTC, datetime

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken, Reading
from fhir_server.core.monitoring.assignment_book import AssignmentBook
from fhir_server.core.monitoring.place import place
from fhir_server.core.search.parameter import (
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)
from fhir_server.core.version import Version, deletion, next_version
from fhir_server.operations import followed_book
from fhir_server.operations.assignments import AssignmentLookUp, Assignments
from fhir_server.store.protocol import Page

NOW = datetime(2024, 3, 10, tzinfo=UTC)
TOKENS = tuple(IdentifierToken(None, value) for value in ("1", "2", "3"))


def parameter(resource_type, code):
    expression = f"{resource_type}.{code}"
    return SearchParameter(
        resource_type, code, SearchType.REFERENCE, expression, "", sources=(Source(code),)
    )


PARAMETERS = SearchParameters(
    [
        parameter("DeviceUseStatement", "device"),
        parameter("CarePlan", "subject"),
        parameter("Task", "focus"),
    ]
)


class Model:
    """The transaction of a group: the committed versions and those of the group."""

    now = NOW

    def __init__(self, committed, group):
        self.committed = committed
        self.group = group

    def versions(self):
        return [*self.committed, *self.group]

    def current(self, resource_type):
        newest = {v.key: v for v in self.versions() if v.key.resource_type == resource_type}
        return [v for v in newest.values() if not v.is_deletion]

    def read(self, key):
        return next((v for v in reversed(self.versions()) if v.key == key), None)

    def read_many(self, keys):
        return {v.key: v for key in keys if (v := self.read(key)) and not v.is_deletion}

    def find(self, resource_type, identifiers):
        found = {}
        for system, value in identifiers:
            keys = tuple(
                v.key
                for v in self.current(resource_type)
                for i in v.resource().get("identifier", ())
                if i["value"] == value and system in (None, i.get("system"))
            )
            if keys:
                found[system, value] = keys
        return found

    def search(self, query):
        (clause,) = query.criteria
        wanted = {f"{v.resource_type}/{v.resource_id}" for v in clause.values}
        matches = (
            v
            for v in self.current(query.resource_type)
            if v.resource()[clause.parameter.code]["reference"] in wanted
        )
        return Page(tuple(matches), len(self.versions()))

    def changes(self, after, resource_types):
        newer = (v for v in self.versions() if v.sequence > after)
        found = tuple(v for v in newer if v.key.resource_type in resource_types)
        return len(self.versions()), found

    def put(self, version, _resource):
        self.group.append(version._replace(sequence=len(self.versions()) + 1))


def device(number, values):
    return {
        "resourceType": "Device",
        "id": f"d{number}",
        "identifier": [{"value": value} for value in values],
    }


def statement(number, device_number, patient_number):
    return {
        "resourceType": "DeviceUseStatement",
        "id": f"s{number}",
        "status": "active",
        "device": {"reference": f"Device/d{device_number}"},
        "subject": {"reference": f"Patient/p{patient_number}"},
        "timingPeriod": {"start": "2024"},
    }


def patient(number):
    return {"resourceType": "Patient", "id": f"p{number}"}


def care_plan(number, patient_number):
    return {
        "resourceType": "CarePlan",
        "id": f"c{number}",
        "status": "active",
        "subject": {"reference": f"Patient/p{patient_number}"},
        "activity": [{"detail": {"code": {"coding": [{"code": "x"}]}}}],
    }


few = st.integers(0, 1)
resources = st.one_of(
    st.builds(device, few, st.lists(st.sampled_from("123"), max_size=2)),
    st.builds(statement, few, few, few),
    st.builds(patient, few),
    st.builds(care_plan, few, few),
)


class Coherence(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.assignments = Assignments()
        self.committed = []
        self.group = []
        self.seen = []
        self.unheard = []

    def write(self, resource):
        model = Model(self.committed, self.group)
        key = ResourceKey(resource["resourceType"], resource["id"])
        version, stored = next_version(model.read(key), key, resource, NOW)
        model.put(version, stored)

    @rule(resource=resources)
    def a_decision_writes(self, resource):
        self.write(resource)

    @rule(resource=resources)
    def a_decision_deletes(self, resource):
        model = Model(self.committed, self.group)
        current = model.read(ResourceKey(resource["resourceType"], resource["id"]))
        if current is not None and not current.is_deletion:
            model.put(deletion(current, NOW), None)

    @rule()
    def an_unwatched_write(self):
        body = resource_json.format({"resourceType": "Observation"})
        key = ResourceKey("Observation", str(len(self.committed) + len(self.group)))
        Model(self.committed, self.group).put(Version(key, 1, NOW, "create", body), None)

    @rule(tokens=st.sets(st.sampled_from(TOKENS), min_size=1))
    def a_decision_places_readings(self, tokens):
        model = Model(self.committed, self.group)
        look_up = AssignmentLookUp(tuple(tokens), PARAMETERS, UTC)
        view = self.assignments.view(model, look_up)
        truth = AssignmentBook()
        look_up.fill(truth, model)
        for token in tokens:
            reading = Reading("x", token, None, "t", NOW, "", ())
            assert place(reading, view.book) == place(reading, truth)
        self.seen.append(view.sequence)

    @rule()
    def the_group_commits(self):
        self.committed += self.group
        self.group = []
        self.unheard += self.seen
        self.seen = []

    @rule()
    def the_group_is_lost(self):
        self.group = []
        self.seen = []

    @rule(resource=resources)
    def another_process_commits_before_the_group(self, resource):
        if not self.group and not self.seen:
            self.write(resource)
            self.committed += self.group
            self.group = []

    @rule(data=st.data())
    def the_news_of_a_commit_arrives(self, data):
        if self.unheard:
            heard = data.draw(st.sampled_from(self.unheard))
            self.unheard.remove(heard)
            self.assignments.confirm(heard)


Coherence.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWhatIsToldIsWhatIsStored = Coherence.TestCase


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(followed_book, "_FAR_BEHIND", 3)
    monkeypatch.setattr(followed_book, "_MOST_ENTRIES", 2)


def test_the_same_holds_when_the_book_is_full_or_far_behind(small):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Coherence, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_a_book_that_is_up_to_date_is_not_asked_for_again():
    model = Model([], [])
    for resource in (device(0, "1"), patient(0), statement(0, 0, 0)):
        key = ResourceKey(resource["resourceType"], resource["id"])
        model.put(*next_version(None, key, resource, NOW))
    model = Model(model.group, [])
    told = Assignments()
    told.confirm(3)
    look_up = AssignmentLookUp(TOKENS[:1], PARAMETERS, UTC)
    first = told.view(model, look_up)
    told.confirm(first.sequence)
    searched = []
    model.search = searched.append
    model.find = searched.append
    second = told.view(model, look_up)
    assert second.book is first.book
    assert searched == []
