"""Ingest: payloads become Observations or quarantine Tasks, each reading with its verdict.

Stage one (payload to readings) runs before the decision; placing, stage two and the
look for what is already there run in it, so that a race is decided where it commits.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from fhir_server.core import date_range, resource_json
from fhir_server.core.form import Filled, Form
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.catalog import BrokenMapping
from fhir_server.core.mapping.forms import Values, form_values
from fhir_server.core.mapping.key import (
    IDENTIFIER_SYSTEM,
    measured_signature,
    reading_identifier,
)
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    Ignored,
    Outcome,
    QuarantineReason,
    Reading,
    Verdict,
)
from fhir_server.core.monitoring.assignment import answered_plans, concept_codes
from fhir_server.core.monitoring.assignment_book import AssignmentBook
from fhir_server.core.monitoring.place import Placed, place
from fhir_server.core.monitoring.quarantine import NOTHING_KNOWN, About
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, next_version
from fhir_server.errors import Issue, MalformedResource
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import errors_of, narrative_faults
from fhir_server.operations.assignments import AssignmentLookUp, Assignments
from fhir_server.operations.hold_back import HoldBack, Undecided
from fhir_server.store.protocol import Transaction

_Name = tuple[str, str]

_CONFLICT = Fault(QuarantineReason.CONFLICT, "the same reading is stored with another value")


class ReadPayload(NamedTuple):
    """A payload after stage one. `position` is its place in what was sent, from 0."""

    position: int
    raw: bytes
    outcomes: tuple[Outcome, ...]


class ReadingResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was decided about one reading, with the names that `POST /readings` answers.

    `index` is the payload's position, `reading` the place of the reading within it.
    """

    index: int
    reading: int
    verdict: Verdict
    resources: tuple[str, ...] = ()
    reason: str = ""
    detail: str = ""
    quarantine: str = ""


class Decided(NamedTuple):
    """The results of one decision, in the order of the payloads and their readings.

    `sequence` is what `Assignments.confirm` is told once it is committed.
    """

    results: tuple[ReadingResult, ...]
    sequence: int


def read_payload(
    mapping: Mapping | BrokenMapping | None, position: int, raw: bytes, gateway: Gateway
) -> ReadPayload:
    """Stage one; whatever is wrong with the payload is an outcome of it, never an error."""
    try:
        payload = resource_json.parse(raw)
    except MalformedResource as error:
        return ReadPayload(position, raw, (Fault(QuarantineReason.MALFORMED, str(error)),))
    return ReadPayload(position, raw, read_parsed(mapping, payload, gateway))


def read_parsed(
    mapping: Mapping | BrokenMapping | None, payload: object, gateway: Gateway
) -> tuple[Outcome, ...]:
    """Stage one of a payload that is JSON."""
    if mapping is None:
        return (Fault(QuarantineReason.MAPPING_BROKEN, "there is no such mapping any more"),)
    if isinstance(mapping, BrokenMapping):
        return (Fault(QuarantineReason.MAPPING_BROKEN, "the mapping has faults"),)
    return mapping.read(payload, gateway)


async def ingest(
    ctx: Context,
    assignments: Assignments,
    name: str,
    mapping: Mapping | BrokenMapping,
    payloads: Sequence[ReadPayload],
    gateway: Gateway,
) -> tuple[ReadingResult, ...]:
    """Decide all readings of `payloads` in one commit; durable when it returns.

    Raises:
        StoreUnavailable: nothing of it was kept.
    """

    def decide(tx: Transaction) -> Decided:
        return decide_readings(tx, ctx, assignments, name, mapping, payloads, gateway)

    decided = await ctx.store.commit(decide)
    assignments.confirm(decided.sequence)
    return decided.results


def decide_readings(
    tx: Transaction,
    ctx: Context,
    assignments: Assignments,
    name: str,
    mapping: Mapping | BrokenMapping | None,
    payloads: Sequence[ReadPayload],
    gateway: Gateway,
) -> Decided:
    """The decision of `ingest`, for one that has more to put."""
    decision = _Decision(tx, ctx, name, mapping, gateway)
    sequence = decision.project_all(assignments, payloads)
    return Decided(decision.results(payloads), sequence)


class _Projected(NamedTuple):
    """A reading that has its place: the Observation it would be and the name of it.

    The Observation is `values` in the gaps of `form`, where there is one, else `projected`.
    """

    name: _Name
    placed: Placed
    form: Form | None
    values: Values = ()
    projected: Resource | None = None

    def resource(self) -> Resource:
        """The Observation, to be read: ids and times of the server may be empty."""
        if self.form is None:
            assert self.projected is not None
            return self.projected
        return self.form.fill(("", "", *self.values))

    def create(self, key: ResourceKey, now: datetime) -> tuple[Version, Resource | Filled]:
        """The first version of the Observation."""
        if self.form is None:
            return next_version(None, key, self.resource(), now)
        return self.form.create(key, now, self.values)


class _Unplaced(NamedTuple):
    """A reading that has to wait."""

    fault: Fault
    about: About


class _Decision:
    """One run of a decision: what it found and what it has put so far."""

    def __init__(
        self,
        tx: Transaction,
        ctx: Context,
        name: str,
        mapping: Mapping | BrokenMapping | None,
        gateway: Gateway,
    ) -> None:
        self._tx = tx
        self._ctx = ctx
        self._mapping = mapping
        self._gateway = gateway
        self._hold_back = HoldBack(tx, ctx, name, gateway)
        # By reading identifier: the Observations that are there, put just now or before.
        self._there: dict[_Name, list[tuple[ResourceKey, Callable[[], Resource]]]] = {}
        self._projected: list[_Projected | _Unplaced] = []

    def project_all(self, assignments: Assignments, payloads: Sequence[ReadPayload]) -> int:
        """Place and project every reading, look up what is there of them; all in bulk."""
        readings = [o for p in payloads for o in p.outcomes if isinstance(o, Reading)]
        tokens = tuple(dict.fromkeys(r.device for r in readings if r.device is not None))
        zone = date_range.load_zone(self._ctx.time_zone)
        view = assignments.view(self._tx, AssignmentLookUp(tokens, self._ctx.parameters, zone))
        self._projected = [self._project(reading, view.book) for reading in readings]
        self._find_there(readings)
        return view.sequence

    def results(self, payloads: Sequence[ReadPayload]) -> tuple[ReadingResult, ...]:
        """Decide in order; put what is new, hold back what cannot be decided."""
        projected = iter(self._projected)
        results: list[ReadingResult | Undecided] = []
        for payload in payloads:
            for ordinal, outcome in enumerate(payload.outcomes):
                if isinstance(outcome, Ignored):
                    results.append(
                        ReadingResult(
                            payload.position, ordinal, Verdict.IGNORED, reason=outcome.reason
                        )
                    )
                    continue
                decided = (
                    _Unplaced(outcome, NOTHING_KNOWN)
                    if isinstance(outcome, Fault)
                    else self._decide(payload.position, ordinal, next(projected))
                )
                results.append(
                    Undecided(payload.position, payload.raw, ordinal, *decided)
                    if isinstance(decided, _Unplaced)
                    else decided
                )
        undecided = [result for result in results if isinstance(result, Undecided)]
        tasks = iter(self._hold_back.keep(undecided))
        return tuple(
            _held_result(result, next(tasks)) if isinstance(result, Undecided) else result
            for result in results
        )

    def _project(self, reading: Reading, book: AssignmentBook) -> _Projected | _Unplaced:
        placed = place(reading, book)
        if isinstance(placed, Fault):
            return _Unplaced(placed, About(reading.device))
        mapping = self._mapping
        assert isinstance(mapping, Mapping)
        placement = placed.placement
        if placed.plans:
            codes = concept_codes(mapping.code(reading))
            if plans := answered_plans(placed.plans, codes, placed.instant):
                placement = placement._replace(based_on=plans)
        forms = mapping.forms(reading)
        shape = forms.shape(reading, placement) if forms else None
        if forms and shape and (form := forms.find(shape)):
            values = form_values(reading, placement, self._gateway.received)
            return _Projected((IDENTIFIER_SYSTEM, str(values[0])), placed, form, values)
        resource = mapping.project(reading, placement, self._gateway.received)
        faults_of = errors_of if self._ctx.is_validation_strict else _acting
        if issues := faults_of(self._ctx, resource):
            detail = f"{issues[0].expression or 'Observation'}: {issues[0].diagnostics}"
            fault = Fault(QuarantineReason.INVALID_RESOURCE, detail)
            return _Unplaced(fault, About(reading.device, placement.patient))
        if forms and shape and self._speaks_for_its_shape(resource):
            # What is like it need not be checked again: no rule of R4 is about what may
            # stand in its gaps but their formats.
            forms.add(shape, reading, placement, resource)
        identifier = resource["identifier"][0]
        name = identifier["system"], identifier["value"]
        return _Projected(name, placed, None, projected=resource)

    def _speaks_for_its_shape(self, resource: Resource) -> bool:
        thorough = self._ctx.thorough
        return thorough is None or thorough.speaks_for_its_shape(resource)

    def _find_there(self, readings: Sequence[Reading]) -> None:
        """Look up the stored Observations of all readings under every name they may have."""
        names: dict[tuple[str | None, str], _Name] = {}
        for reading, projected in zip(readings, self._projected, strict=True):
            if isinstance(projected, _Unplaced):
                continue
            names[projected.name] = projected.name
            for other in projected.placed.other_placements():
                names[reading_identifier(reading, other)] = projected.name
        if not names:
            return
        found = self._tx.find("Observation", names)
        versions = self._tx.read_many([key for keys in found.values() for key in keys])
        for name, keys in found.items():
            there = self._there.setdefault(names[name], [])
            there += [(key, versions[key].resource) for key in keys if key in versions]

    def _decide(
        self, position: int, ordinal: int, projected: _Projected | _Unplaced
    ) -> ReadingResult | _Unplaced:
        if isinstance(projected, _Unplaced):
            return projected
        if there := self._there.get(projected.name):
            signature = measured_signature(projected.resource())
            for key, other in there:
                if measured_signature(other()) == signature:
                    return ReadingResult(position, ordinal, Verdict.DUPLICATE, (str(key),))
            about = About(None, projected.placed.placement.patient, there[0][0])
            return _Unplaced(_CONFLICT, about)
        key = ResourceKey("Observation", self._ctx.new_id())
        self._tx.put(*projected.create(key, self._tx.now))
        self._there[projected.name] = [(key, projected.resource)]
        return ReadingResult(position, ordinal, Verdict.ACCEPTED, (str(key),))


def _held_result(undecided: Undecided, task: ResourceKey) -> ReadingResult:
    fault = undecided.fault
    is_conflict = fault.reason is QuarantineReason.CONFLICT
    return ReadingResult(
        undecided.position,
        undecided.ordinal,
        Verdict.CONFLICT if is_conflict else Verdict.QUARANTINED,
        reason=str(fault.reason),
        detail=fault.detail,
        quarantine=str(task),
    )


def _acting(_ctx: Context, resource: Resource) -> tuple[Issue, ...]:
    """What forbids to store a reading where validation only warns."""
    return narrative_faults(resource)
