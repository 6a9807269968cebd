"""Enrol: a prescription of a device kit becomes resources, in one decision, once."""

from typing import NamedTuple

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.prescription import PrescribedDevice, Prescription
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring import enrolment
from fhir_server.core.monitoring.assignment import (
    DeviceRecord,
    is_auxiliary,
    is_overlap,
    parse_assignment,
)
from fhir_server.core.monitoring.assignment_book import AssignmentBook
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, next_version
from fhir_server.errors import InvalidResource, Issue, MultipleMatches, VersionConflict
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import errors_of
from fhir_server.operations.assignments import AssignmentLookUp
from fhir_server.store.protocol import Transaction


class Enrolled(NamedTuple):
    """A resource of the enrolment, and whether it was there before."""

    version: Version
    is_new: bool


async def enrol(ctx: Context, prescription: Prescription) -> tuple[Enrolled, ...]:
    """Patient, Devices, their assignments, Goals and the CarePlan, found or made.

    An order that was enrolled changes nothing when it comes again.

    Raises:
        VersionConflict: the order was enrolled with another content, or somebody else
            has one of the devices at that time, or a Device is registered otherwise.
        MultipleMatches: an identifier names several resources.
        InvalidResource: what the order says makes no valid resource.
    """

    def decide(tx: Transaction) -> tuple[Enrolled, ...]:
        return _Enrolment(tx, ctx, prescription).decide()

    return await ctx.store.commit(decide)


class _Enrolment:
    """One run of the decision."""

    def __init__(self, tx: Transaction, ctx: Context, prescription: Prescription) -> None:
        self._tx = tx
        self._ctx = ctx
        self._prescription = prescription
        self._zone = date_range.load_zone(ctx.time_zone)
        self._enrolled: list[Enrolled] = []

    def decide(self) -> tuple[Enrolled, ...]:
        order = self._prescription
        plan = self._find_own("CarePlan", "plan")
        if plan is not None:
            return self._again(plan)
        patient = self._patient()
        for index, prescribed in enumerate(order.devices):
            device = self._device(index, prescribed)
            self._assign(index, patient, device)
        goals = [self._goal(index, patient) for index in range(len(order.limits))]
        self._make(enrolment.care_plan(order, patient, goals), "CarePlan")
        return tuple(self._enrolled)

    def _again(self, plan: Version) -> tuple[Enrolled, ...]:
        """All that the order made, as it stands now: a physician may have changed it."""
        order = self._prescription
        if enrolment.content_of(plan.resource()) != enrolment.content_digest(order):
            raise VersionConflict(
                f"the order was enrolled with another content: change {plan.key} and its goals"
            )
        parts = [("DeviceUseStatement", f"device.{i}") for i in range(len(order.devices))]
        parts += [("Goal", f"goal.{i}") for i in range(len(order.limits))]
        people = [("Patient", order.patient.identifiers)]
        kits = [("Device", device.identifiers) for device in order.devices]
        found = [self._find(kind, identifiers, "") for kind, identifiers in people + kits]
        found += [self._find_own(kind, part) for kind, part in parts]
        return tuple(Enrolled(v, is_new=False) for v in [*found, plan] if v is not None)

    def _patient(self) -> ResourceKey:
        person = self._prescription.patient
        found = self._find("Patient", person.identifiers, "patient")
        if found is None:
            return self._make(enrolment.patient(person), "Patient")
        # Who somebody is belongs to the clinic: an order never rewrites it.
        self._enrolled.append(Enrolled(found, is_new=False))
        return found.key

    def _device(self, index: int, prescribed: PrescribedDevice) -> ResourceKey:
        path = f"devices[{index}]"
        found = self._find("Device", prescribed.identifiers, path)
        if found is None:
            return self._make(enrolment.device(prescribed), "Device")
        if is_auxiliary(found.resource()) != prescribed.is_auxiliary:
            raise VersionConflict(
                issues=(
                    Issue(
                        "conflict",
                        f"{found.key} and the order disagree on whether it is a medical device",
                        path,
                    ),
                )
            )
        self._enrolled.append(Enrolled(found, is_new=False))
        return found.key

    def _assign(self, index: int, patient: ResourceKey, device: ResourceKey) -> None:
        statement = enrolment.device_use_statement(self._prescription, index, patient, device)
        key = ResourceKey("DeviceUseStatement", self._ctx.new_id())
        parsed = parse_assignment(key, statement, self._zone)
        if parsed is None:
            raise InvalidResource("the order names no time for its devices")
        _, assignment = parsed
        for other in self._record(self._prescription.devices[index].identifiers[0]):
            for held in other.assignments:
                if held.patient != patient and is_overlap(held, assignment):
                    raise VersionConflict(
                        issues=(
                            Issue(
                                "conflict",
                                f"{device} is assigned to another patient in that time"
                                f" by {held.statement}",
                                f"devices[{index}]",
                            ),
                        )
                    )
        self._put(key, statement)

    def _record(self, token: IdentifierToken) -> tuple[DeviceRecord, ...]:
        # Looked up anew: the shared book is for those who read, and one order may give
        # one device twice.
        book = AssignmentBook()
        AssignmentLookUp((token,), self._ctx.parameters, self._zone).fill(book, self._tx)
        return book.named(token)

    def _goal(self, index: int, patient: ResourceKey) -> ResourceKey:
        return self._make(enrolment.goal(self._prescription, index, patient), "Goal")

    def _make(self, resource: Resource, resource_type: str) -> ResourceKey:
        key = ResourceKey(resource_type, self._ctx.new_id())
        self._put(key, resource)
        return key

    def _put(self, key: ResourceKey, resource: Resource) -> None:
        if issues := errors_of(self._ctx, resource):
            raise InvalidResource(issues=issues)
        version, stored = next_version(None, key, resource, self._tx.now)
        self._tx.put(version, stored)
        self._enrolled.append(Enrolled(version, is_new=True))

    def _find_own(self, resource_type: str, part: str) -> Version | None:
        system, value = enrolment.enrolment_identifier(self._prescription, part)
        return self._find(resource_type, (IdentifierToken(system, value),), part)

    def _find(
        self, resource_type: str, identifiers: tuple[IdentifierToken, ...], path: str
    ) -> Version | None:
        """The one resource that any of the identifiers names."""
        found = self._tx.find(resource_type, identifiers)
        keys = {key for some in found.values() for key in some}
        if len(keys) > 1:
            raise MultipleMatches(
                issues=(
                    Issue(
                        "multiple-matches",
                        f"the identifiers name {len(keys)} {resource_type} resources",
                        path or None,
                    ),
                )
            )
        for key in keys:
            return self._tx.read(key)
        return None
