"""The assignment book: what is known of devices, assignments and patients, and forgets.

It is filled from the store and holds what it was told until it is told that something
changed; then it forgets just that, and asks again.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TypeVar

from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.reading import IdentifierToken
from fhir_server.core.monitoring.assignment import (
    DeviceRecord,
    PatientRecord,
    local_key,
    parse_identifiers,
)
from fhir_server.core.version import Version

K = TypeVar("K")
V = TypeVar("V")

WATCHED = ("Device", "DeviceUseStatement", "Patient", "CarePlan", "ServiceRequest")


class AssignmentBook:
    """Devices by the tokens that name them, with their holders; patients with their plans.

    What is not in it is unknown to it, not absent: an absent device is a token that
    names no key, an absent patient a None. Asking what is unknown is asking for the rest:
    each of its parts is in the order of being asked for.
    """

    def __init__(self) -> None:
        self._tokens: dict[IdentifierToken, tuple[ResourceKey, ...]] = {}
        self._devices: dict[ResourceKey, DeviceRecord | None] = {}
        self._patients: dict[ResourceKey, PatientRecord | None] = {}

    def __len__(self) -> int:
        return len(self._tokens) + len(self._patients)

    def copy(self) -> "AssignmentBook":
        """One that can learn and forget without this one noticing."""
        twin = AssignmentBook()
        twin._tokens = dict(self._tokens)
        twin._devices = dict(self._devices)
        twin._patients = dict(self._patients)
        return twin

    def named(self, token: IdentifierToken) -> tuple[DeviceRecord, ...]:
        """The devices a token names."""
        records = [self._devices[key] for key in self._tokens[token]]
        return tuple([record for record in records if record is not None])

    def patient(self, key: ResourceKey) -> PatientRecord | None:
        """The patient, or None if there is no such (any more)."""
        return self._patients[key]

    def unknown_tokens(self, tokens: Iterable[IdentifierToken]) -> tuple[IdentifierToken, ...]:
        return _unknown(self._tokens, tokens)

    def unknown_devices(self, tokens: Iterable[IdentifierToken]) -> tuple[ResourceKey, ...]:
        """Devices that known tokens name and that still have to be looked up."""
        keys = (key for token in dict.fromkeys(tokens) for key in self._tokens[token])
        return _unknown(self._devices, keys)

    def unknown_patients(self, tokens: Iterable[IdentifierToken]) -> tuple[ResourceKey, ...]:
        """Patients of the devices that tokens name and that still have to be looked up."""
        keys = (
            assignment.patient
            for token in dict.fromkeys(tokens)
            for device in self.named(token)
            for assignment in device.assignments
        )
        return _unknown(self._patients, keys)

    def learn_token(self, token: IdentifierToken, keys: Sequence[ResourceKey]) -> None:
        self._tokens[token] = tuple(keys)

    def learn_device(self, key: ResourceKey, record: DeviceRecord | None) -> None:
        self._devices[key] = record

    def learn_patient(self, key: ResourceKey, record: PatientRecord | None) -> None:
        self._patients[key] = record

    def trim(self, most: int) -> None:
        """Keep `most` tokens and patients together, those that were asked for last."""
        half = most // 2
        self._tokens = _last(self._tokens, half)
        self._devices = _last(self._devices, half)
        self._patients = _last(self._patients, half)

    def forget(self, changed: Iterable[Version]) -> None:
        """Drop all that a change of these resources may have made untrue.

        What a resource said before is known from the entries that came of it, what it
        says now from its body. The scans run only when something watched was written.
        """
        devices: set[ResourceKey] = set()
        patients: set[ResourceKey] = set()
        statements: set[ResourceKey] = set()
        plans: set[ResourceKey] = set()
        named: set[str] = set()
        for version in changed:
            key = version.key
            resource = {} if version.is_deletion else version.resource()
            if key.resource_type == "Device":
                devices.add(key)
                named.update(identifier.value for identifier in parse_identifiers(resource))
            elif key.resource_type == "Patient":
                patients.add(key)
            elif key.resource_type == "DeviceUseStatement":
                statements.add(key)
                if device := local_key(resource.get("device"), "Device"):
                    devices.add(device)
            elif key.resource_type == "CarePlan":
                plans.add(key)
                if patient := local_key(resource.get("subject"), "Patient"):
                    patients.add(patient)
            elif key.resource_type == "ServiceRequest":
                plans.add(key)
                for based_on in resource.get("basedOn", ()):
                    if plan := local_key(based_on, "CarePlan"):
                        plans.add(plan)
        if devices or statements:
            self._forget_devices(devices, statements, named)
        if patients or plans:
            self._forget_patients(patients, plans)

    def _forget_devices(
        self, devices: set[ResourceKey], statements: set[ResourceKey], named: set[str]
    ) -> None:
        self._devices = {
            key: record
            for key, record in self._devices.items()
            if key not in devices
            and (
                record is None
                or statements.isdisjoint(assignment.statement for assignment in record.assignments)
            )
        }
        self._tokens = {
            token: keys
            for token, keys in self._tokens.items()
            if token.value not in named and devices.isdisjoint(keys)
        }

    def _forget_patients(self, patients: set[ResourceKey], plans: set[ResourceKey]) -> None:
        self._patients = {
            key: record
            for key, record in self._patients.items()
            if key not in patients
            and (
                record is None or all(plans.isdisjoint((p.key, *p.requests)) for p in record.plans)
            )
        }


def _unknown(known: dict[K, V], asked: Iterable[K]) -> tuple[K, ...]:
    """What is not in `known`; what is moves to its end."""
    unknown: list[K] = []
    for each in dict.fromkeys(asked):
        if each in known:
            known[each] = known.pop(each)
        else:
            unknown.append(each)
    return tuple(unknown)


def _last(known: dict[K, V], most: int) -> dict[K, V]:
    return dict(islice(known.items(), max(0, len(known) - most), None))
