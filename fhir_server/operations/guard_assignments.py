"""The guard of assignments: no device with two patients at once, no correction without its work.

It looks at what a decision has put, whichever interaction that was, and decides with it: of
two writers that race, the second sees what the first stored (ADR 0023).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import tzinfo

from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.form import Filled
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import (
    Assignment,
    is_overlap,
    parse_assignment,
    parse_identifiers,
)
from fhir_server.core.monitoring.correction import Held, concerned
from fhir_server.core.monitoring.placing_work import Work, work_task
from fhir_server.core.monitoring.quarantine import OPEN_STATUSES, TASK_CODE, TASK_SYSTEM
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameter, SearchParameters
from fhir_server.core.search.query import (
    Clause,
    Criterion,
    DateValue,
    MissingValue,
    Prefix,
    Query,
    ReferenceValue,
    TokenValue,
)
from fhir_server.core.version import Version, next_version
from fhir_server.errors import InvalidResource, Issue, VersionConflict
from fhir_server.operations.followed_book import referring
from fhir_server.operations.judge import Change
from fhir_server.store.protocol import Transaction

_PATH = "DeviceUseStatement.timing"


class AssignmentGuard:
    """One a process and store. `zone` is that of dates without a time."""

    looked_at = frozenset({"DeviceUseStatement"})

    def __init__(
        self, parameters: SearchParameters, zone: tzinfo, new_id: Callable[[], str]
    ) -> None:
        self._parameters = parameters
        self._zone = zone
        self._new_id = new_id

    def judge(self, tx: Transaction, changes: Sequence[Change]) -> int:
        """Put the work that corrections leave behind; nothing is to be confirmed.

        Raises:
            VersionConflict: a device would have two patients at once.
            InvalidResource: a statement's time cannot be read.
        """
        corrected = [
            (key, before, after)
            for key, before, after in self._corrected(changes)
            if before != after
        ]
        self._check(tx, [after for _, _, after in corrected if after is not None])
        for key, before, after in corrected:
            for device, stretch in concerned(before, after):
                if self._is_concerned(tx, device, stretch):
                    former = before[1].patient if before and before[0] == device else None
                    self._leave_work(tx, key, device, stretch, former)
        return 0

    def confirm(self, sequence: int) -> None:
        """What it looks up it keeps for no other decision."""

    def _corrected(
        self, changes: Iterable[Change]
    ) -> Iterator[tuple[ResourceKey, Held | None, Held | None]]:
        first: dict[ResourceKey, Version | None] = {}
        last: dict[ResourceKey, Resource | Filled | None] = {}
        for change in changes:
            first.setdefault(change.key, change.before)
            last[change.key] = change.resource
        for key, before in first.items():
            old = None if before is None or before.is_deletion else before.resource()
            new = last[key]
            yield key, self._parse(key, old), self._parse(key, new)

    def _parse(self, key: ResourceKey, statement: Resource | Filled | None) -> Held | None:
        if statement is None or isinstance(statement, Filled):
            return None
        try:
            return parse_assignment(key, statement, self._zone)
        except ValueError:
            issue = Issue("invalid", f"the time of {key} cannot be read", _PATH)
            raise InvalidResource(issues=(issue,)) from None

    def _check(self, tx: Transaction, assigned: Sequence[Held]) -> None:
        devices = dict.fromkeys(device for device, _ in assigned)
        held: dict[ResourceKey, list[Assignment]] = {device: [] for device in devices}
        for version in referring(tx, self._parameters, "DeviceUseStatement", "device", devices):
            parsed = parse_assignment(version.key, version.resource(), self._zone)
            if parsed is not None and parsed[0] in held:
                held[parsed[0]].append(parsed[1])
        issues = []
        for device, assignment in assigned:
            for other in held[device]:
                if other.patient != assignment.patient and is_overlap(other, assignment):
                    says = f"{device} is assigned to another patient in that time by"
                    issues.append(Issue("conflict", f"{says} {other.statement}", _PATH))
        if issues:
            raise VersionConflict(issues=issues)

    def _is_concerned(self, tx: Transaction, device: ResourceKey, stretch: DateRange) -> bool:
        """Whether there is anything that might have to be placed again."""
        return any(
            tx.search(query._replace(count=1)).versions
            for query in (
                dated_readings(self._parameters, device, stretch),
                undated_readings(self._parameters, device),
            )
        ) or any(
            tx.search(query._replace(count=1)).versions
            for query in held_back(tx, self._parameters, device)
        )

    def _leave_work(
        self,
        tx: Transaction,
        statement: ResourceKey,
        device: ResourceKey,
        stretch: DateRange,
        former: ResourceKey | None,
    ) -> None:
        current = tx.read(statement)
        version_id = current.version_id if current is not None else 1
        work = Work(device, f"{statement}/_history/{version_id}", stretch, former)
        key = ResourceKey("Task", self._new_id())
        tx.put(*next_version(None, key, work_task(work, tx.now), tx.now))


def dated_readings(parameters: SearchParameters, device: ResourceKey, stretch: DateRange) -> Query:
    """The Observations of a device that a stretch of time touches."""
    date = _parameter(parameters, "Observation", "date")
    criteria: list[Criterion] = [_of_device(parameters, device)]
    if stretch.start > EARLIEST:
        start = DateRange(stretch.start, stretch.start + 1)
        criteria.append(Clause(date, "", (DateValue(Prefix.GE, start),)))
    if stretch.end < LATEST:
        end = DateRange(stretch.end, stretch.end + 1)
        criteria.append(Clause(date, "", (DateValue(Prefix.LT, end),)))
    return Query("Observation", tuple(criteria))


def undated_readings(parameters: SearchParameters, device: ResourceKey) -> Query:
    """The Observations of a device whose time nobody knows."""
    date = _parameter(parameters, "Observation", "date")
    missing = Clause(date, "missing", (MissingValue(True),))
    return Query("Observation", (_of_device(parameters, device), missing))


def held_back(
    tx: Transaction, parameters: SearchParameters, device: ResourceKey
) -> tuple[Query, ...]:
    """The quarantine's open Tasks that name the device; none if nothing names it."""
    version = tx.read(device)
    resource = {} if version is None or version.is_deletion else version.resource()
    names = tuple(TokenValue(None, name.value) for name in parse_identifiers(resource))
    if not names:
        return ()
    code, status, requester = (
        _parameter(parameters, "Task", name) for name in ("code", "status", "requester")
    )
    criteria = (
        Clause(requester, "identifier", names),
        Clause(code, "", (TokenValue(TASK_SYSTEM, TASK_CODE),)),
        Clause(status, "", tuple(TokenValue(None, s) for s in OPEN_STATUSES)),
    )
    return (Query("Task", criteria),)


def _of_device(parameters: SearchParameters, device: ResourceKey) -> Clause:
    return Clause(_parameter(parameters, "Observation", "device"), "", (ReferenceValue(*device),))


def _parameter(parameters: SearchParameters, resource_type: str, code: str) -> SearchParameter:
    found = parameters.get(resource_type, code)
    if found is None:
        raise LookupError(f"no search parameter {resource_type}.{code}")
    return found
