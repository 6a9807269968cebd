"""One piece of placing again: some readings of a device, moved to who had it, in one commit.

Everything of a piece is one decision: the readings, their Provenance, what is held back or
comes back, and how far the work is. So a piece is done whole or not at all, by one process.
"""

from datetime import tzinfo
from typing import NamedTuple

import msgspec

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import Fault, IdentifierToken, QuarantineReason
from fhir_server.core.monitoring import moving, placing_work, quarantine
from fhir_server.core.monitoring.assignment import (
    Assignment,
    PatientRecord,
    holders,
    parse_assignment,
    parse_identifiers,
)
from fhir_server.core.monitoring.assignment_book import AssignmentBook
from fhir_server.core.monitoring.placing_work import Counts, Step, Work
from fhir_server.core.monitoring.provenance import provenance
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Cursor, Query, SortKey
from fhir_server.core.version import Version, next_version
from fhir_server.interactions.context import Context
from fhir_server.operations.assignments import AssignmentLookUp
from fhir_server.operations.followed_book import referring
from fhir_server.operations.guard_assignments import dated_readings, undated_readings
from fhir_server.store.protocol import Decision, Transaction

PIECE = 100


class Piece(NamedTuple):
    """Where the work is after a piece."""

    work: Work
    version: Version


def decide_piece(
    ctx: Context, key: ResourceKey, owner: str, size: int = PIECE
) -> Decision[Piece | None]:
    """The decision of the next piece of the work `key`; None if it is not for `owner` to do."""
    zone = date_range.load_zone(ctx.time_zone)

    def decide(tx: Transaction) -> Piece | None:
        current = tx.read(key)
        if current is None or current.is_deletion:
            return None
        task = current.resource()
        if not placing_work.is_for(task, owner, tx.now):
            return None
        try:
            work = placing_work.parse_work(task, zone)
        except ValueError as error:
            changed = placing_work.failed(task, str(error), tx.now)
            tx.put(*next_version(current, key, changed, tx.now))
            return None
        if work.step is not Step.QUARANTINE:
            work = _Moving(tx, ctx, work, zone).next(size)
        version, stored = next_version(
            current, key, placing_work.with_progress(task, work, owner, tx.now), tx.now
        )
        tx.put(version, stored)
        return Piece(work, version)

    return decide


class _Moving:
    """One run of the decision."""

    def __init__(self, tx: Transaction, ctx: Context, work: Work, zone: tzinfo) -> None:
        self._tx = tx
        self._ctx = ctx
        self._work = work
        self._zone = zone
        self._assignments = self._read_assignments()
        self._patients: dict[ResourceKey, PatientRecord | None] = {}
        self._changed: list[str] = []
        self._moved = 0
        self._withdrawn = 0

    def next(self, size: int) -> Work:
        """Place up to `size` readings again; the work as it is then."""
        page = self._tx.search(self._query()._replace(count=size))
        readings = [(version, version.resource()) for version in page.versions]
        self._learn_patients()
        for version, observation in readings:
            self._place(version, observation)
        if self._changed:
            self._say_why()
        counts = self._work.counts.plus(Counts(len(readings), self._moved, self._withdrawn))
        if page.next is not None:
            return self._work._replace(cursor=_format(page.next), counts=counts)
        following = Step.UNDATED if self._work.step is Step.DATED else Step.QUARANTINE
        return self._work._replace(step=following, cursor="", counts=counts)

    def _query(self) -> Query:
        work, parameters = self._work, self._ctx.parameters
        after = _parse(work.cursor) if work.cursor else None
        if work.step is Step.UNDATED:
            return undated_readings(parameters, work.device)._replace(after=after)
        date = parameters.get("Observation", "date")
        assert date is not None
        query = dated_readings(parameters, work.device, work.stretch)
        # In the order of their time, which moving does not change: what has been moved does
        # not come again, and what comes in meanwhile is placed rightly anyway.
        return query._replace(sort=(SortKey(date, descending=False),), after=after)

    def _read_assignments(self) -> list[Assignment]:
        parameters, device = self._ctx.parameters, self._work.device
        found = []
        for version in referring(self._tx, parameters, "DeviceUseStatement", "device", (device,)):
            parsed = parse_assignment(version.key, version.resource(), self._zone)
            if parsed is not None and parsed[0] == device:
                found.append(parsed[1])
        return found

    def _learn_patients(self) -> None:
        version = self._tx.read(self._work.device)
        if version is None or version.is_deletion:
            return
        tokens = parse_identifiers(version.resource())[:1]
        book = AssignmentBook()
        AssignmentLookUp(tokens, self._ctx.parameters, self._zone).fill(book, self._tx)
        for record in (r for token in tokens for r in book.named(token)):
            for assignment in record.assignments:
                self._patients[assignment.patient] = book.patient(assignment.patient)

    def _place(self, version: Version, observation: Resource) -> None:
        patient = moving.subject_of(observation)
        if patient is None:
            return
        is_withdrawn = moving.is_withdrawn(observation)
        if observation.get("status") == "entered-in-error" and not is_withdrawn:
            return
        instant = moving.instant_of(observation, self._zone)
        if instant is None:
            return
        holding = holders(self._assignments, instant)
        record = None
        if len(holding) == 1:
            record = self._patients.get(next(iter(holding)))
        if record is None:
            if not is_withdrawn:
                self._withdraw(version, observation, len(holding))
        elif is_withdrawn or record.key != patient:
            self._put(version, moving.moved(observation, record, instant))
            self._moved += 1
            if is_withdrawn:
                self._close_task(version.key)

    def _withdraw(self, version: Version, observation: Resource, number: int) -> None:
        self._put(version, moving.withdrawn(observation))
        self._withdrawn += 1
        reason = QuarantineReason.DEVICE_NOT_ASSIGNED
        detail = f"nobody had {self._work.device} when it measured"
        if number > 1:
            reason = QuarantineReason.ASSIGNMENT_AMBIGUOUS
            detail = f"{number} patients had {self._work.device} when it measured"
        current = self._task_of(version.key)
        name = self._device_name()
        task = quarantine.withdrawn_task(version.key, Fault(reason, detail), name, self._tx.now)
        key = ResourceKey("Task", self._ctx.new_id()) if current is None else current.key
        self._tx.put(*next_version(current, key, task, self._tx.now))

    def _close_task(self, observation: ResourceKey) -> None:
        current = self._task_of(observation)
        if current is not None and quarantine.is_open(current.resource()):
            task = quarantine.completed(current.resource(), (str(observation),), self._tx.now)
            self._tx.put(*next_version(current, current.key, task, self._tx.now))

    def _task_of(self, observation: ResourceKey) -> Version | None:
        name = quarantine.withdrawn_identifier(observation)
        for key in self._tx.find("Task", (name,)).get(name, ()):
            version = self._tx.read(key)
            if version is not None and not version.is_deletion:
                return version
        return None

    def _device_name(self) -> IdentifierToken | None:
        version = self._tx.read(self._work.device)
        if version is None or version.is_deletion:
            return None
        return next(iter(parse_identifiers(version.resource())), None)

    def _put(self, current: Version, observation: Resource) -> None:
        version, stored = next_version(current, current.key, observation, self._tx.now)
        self._tx.put(version, stored)
        self._changed.append(f"{version.key}/_history/{version.version_id}")

    def _say_why(self) -> None:
        key = ResourceKey("Provenance", self._ctx.new_id())
        resource = provenance(self._changed, self._work.statement, self._tx.now)
        self._tx.put(*next_version(None, key, resource, self._tx.now))


def decide_end(version: Version, counts: Counts) -> Decision[bool]:
    """The decision that ends the work, if nobody changed its Task meanwhile."""

    def decide(tx: Transaction) -> bool:
        current = tx.read(version.key)
        if current is None or current.version_id != version.version_id:
            return False
        task = placing_work.finished(current.resource(), counts, tx.now)
        tx.put(*next_version(current, current.key, task, tx.now))
        return True

    return decide


def _format(cursor: Cursor) -> str:
    return msgspec.json.encode((cursor.sequence, cursor.values)).decode()


def _parse(text: str) -> Cursor | None:
    try:
        sequence, values = msgspec.json.decode(text, type=tuple[int, tuple[int | str | None, ...]])
    except msgspec.MsgspecError:
        # Somebody altered it. From the beginning: what is right already stays as it is.
        return None
    return Cursor(values, sequence)
