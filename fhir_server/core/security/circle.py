"""Circle: whose records one who asks may see, as relations and consents have it now."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.consent import Ruling


class Admitted(NamedTuple):
    """Whose resources of one type may be seen: those of `only`, None being everyone's.

    Of the patients in `but` none may. `permitted` and `denied` are single resources, by the
    patient who said so: they count where they are that patient's.
    """

    only: frozenset[str] | None
    but: frozenset[str]
    permitted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    denied: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Circle:
    """`patients` None is everyone. Who has no ruling is ruled by `default`.

    `owner` is the Organization whose devices are all that may be seen. `is_own`: it is the
    patient's own, who decides who else sees it.
    """

    patients: frozenset[str] | None
    default: bool = True
    rulings: Mapping[str, Ruling] = field(default_factory=dict)
    owner: ResourceKey | None = None
    is_own: bool = False

    @property
    def is_everyone(self) -> bool:
        return self.patients is None and self.owner is None

    @property
    def mark(self) -> str:
        """What is another text once somebody comes into it, leaves it, or rules otherwise."""
        rulings = [
            (
                patient,
                ruling.otherwise,
                sorted(ruling.by_type.items()),
                sorted((str(key), permitted) for key, permitted in ruling.by_key.items()),
            )
            for patient, ruling in sorted(self.rulings.items())
        ]
        patients = None if self.patients is None else sorted(self.patients)
        said = (patients, self.default, rulings, str(self.owner or ""), self.is_own)
        return sha256(repr(said).encode()).hexdigest()

    def of_type(self, resource_type: str) -> Admitted:
        """What may be seen of a type whose resources are each a patient's."""
        ruled = {
            patient: ruling
            for patient, ruling in self.rulings.items()
            if self.patients is None or patient in self.patients
        }
        yes = {patient for patient, ruling in ruled.items() if ruling.permits(resource_type)}
        only: frozenset[str] | None = None
        but: frozenset[str] = frozenset()
        if self.patients is not None:
            unruled = self.patients.difference(ruled) if self.default else ()
            only = frozenset(yes.union(unruled))
        elif self.default:
            but = frozenset(ruled).difference(yes)
        else:
            only = frozenset(yes)
        return Admitted(
            only,
            but,
            _singled(ruled, resource_type, is_permit=True),
            _singled(ruled, resource_type, is_permit=False),
        )


NOBODY = Circle(frozenset())


def _singled(
    ruled: Mapping[str, Ruling], resource_type: str, *, is_permit: bool
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The resources that are ruled otherwise than their type."""
    found = {
        patient: tuple(
            sorted(
                key.resource_id
                for key, permitted in ruling.by_key.items()
                if key.resource_type == resource_type and permitted is is_permit
            )
        )
        for patient, ruling in ruled.items()
        if ruling.by_key and ruling.permits(resource_type) is not is_permit
    }
    return tuple(sorted((patient, ids) for patient, ids in found.items() if ids))
