"""The assignment book of a process: who has which device, as a decision sees it.

What keeps it true is `followed_book`'s; here is what it looks up.
"""

from collections.abc import Sequence
from datetime import tzinfo
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring.assignment import (
    Assignment,
    PatientRecord,
    Plan,
    local_key,
    parse_assignment,
    parse_device,
    parse_identifiers,
    parse_plan,
    requested_by,
)
from fhir_server.core.monitoring.assignment_book import WATCHED, AssignmentBook
from fhir_server.core.monitoring.placing_work import former_patient
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.operations.followed_book import FollowedBook, referring
from fhir_server.store.protocol import Transaction


class View(NamedTuple):
    """What one decision places by; `sequence` is confirmed when it has succeeded."""

    book: AssignmentBook
    sequence: int


class Assignments:
    """One a process and store."""

    def __init__(self) -> None:
        self._followed = FollowedBook(AssignmentBook, WATCHED)

    def view(self, tx: Transaction, look_up: "AssignmentLookUp") -> View:
        """The book as `tx` sees it, with all that `look_up` asks for. Only in a decision."""
        book, sequence = self._followed.view(tx)
        look_up.fill(book, tx)
        return View(book, sequence)

    def confirm(self, sequence: int) -> None:
        """A decision whose view was as of `sequence` is committed."""
        self._followed.confirm(sequence)


class AssignmentLookUp:
    """Looks up in bulk what a book has still to learn about some device tokens."""

    def __init__(
        self, tokens: Sequence[IdentifierToken], parameters: SearchParameters, zone: tzinfo
    ) -> None:
        self._tokens = tokens
        self._parameters = parameters
        self._zone = zone

    def fill(self, book: AssignmentBook, tx: Transaction) -> None:
        """Afterwards `book` knows every device that is named, its assignments and patients."""
        if tokens := book.unknown_tokens(self._tokens):
            found = tx.find("Device", tokens)
            for token in tokens:
                book.learn_token(token, found.get(token, ()))
        if devices := book.unknown_devices(self._tokens):
            self._fill_devices(book, tx, devices)
        if patients := book.unknown_patients(self._tokens):
            self._fill_patients(book, tx, patients)

    def _fill_devices(
        self, book: AssignmentBook, tx: Transaction, keys: Sequence[ResourceKey]
    ) -> None:
        held: dict[ResourceKey, list[Assignment]] = {key: [] for key in keys}
        for statement in referring(tx, self._parameters, "DeviceUseStatement", "device", keys):
            parsed = parse_assignment(statement.key, statement.resource(), self._zone)
            if parsed is not None and parsed[0] in held:
                held[parsed[0]].append(parsed[1])
        former = self._former(tx, keys)
        found = tx.read_many(keys)
        for key in keys:
            version = found.get(key)
            record = None if version is None else parse_device(key, version.resource())
            if record is not None:
                record = record._replace(
                    assignments=tuple(held[key]), former=tuple(dict.fromkeys(former[key]))
                )
            book.learn_device(key, record)

    def _former(
        self, tx: Transaction, keys: Sequence[ResourceKey]
    ) -> dict[ResourceKey, list[ResourceKey]]:
        """The patients that corrections took these devices from: their work is kept."""
        former: dict[ResourceKey, list[ResourceKey]] = {key: [] for key in keys}
        for version in referring(tx, self._parameters, "Task", "focus", keys):
            task = version.resource()
            device = local_key(task.get("focus"), "Device")
            patient = former_patient(task)
            if device in former and patient is not None:
                former[device].append(patient)
        return former

    def _fill_patients(
        self, book: AssignmentBook, tx: Transaction, keys: Sequence[ResourceKey]
    ) -> None:
        plans: dict[ResourceKey, list[Plan]] = {key: [] for key in keys}
        for care_plan in referring(tx, self._parameters, "CarePlan", "subject", keys):
            resource = care_plan.resource()
            requests = _requests(tx, resource)
            plan = parse_plan(care_plan.key, resource, self._zone, requests)
            subject = local_key(resource.get("subject"), "Patient")
            if plan is not None and subject in plans:
                plans[subject].append(plan)
        found = tx.read_many(keys)
        for key in keys:
            version = found.get(key)
            record = None
            if version is not None:
                identifiers = parse_identifiers(version.resource())
                record = PatientRecord(key, identifiers, tuple(plans[key]))
            book.learn_patient(key, record)


def _requests(tx: Transaction, care_plan: Resource) -> dict[ResourceKey, Resource]:
    """The ServiceRequests that a plan points to, those that are there."""
    found = {}
    for key in requested_by(care_plan):
        version = tx.read(key)
        if version is not None and not version.is_deletion:
            found[key] = version.resource()
    return found
