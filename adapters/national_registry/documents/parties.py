"""Who stands in a document: the patient, the author, the organization, with their numbers.

A document without them would be refused, so what is missing is said here, by its path.
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from adapters.national_registry.documents.identifiers import digits, policy_fault, snils_fault
from adapters.national_registry.patient import POLICY_SYSTEM, SNILS_SYSTEM
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryRejected

_log = logging.getLogger(__name__)

_SEX = {"male": ("1", "Мужской"), "female": ("2", "Женский")}


class Name(NamedTuple):
    """A person's name as the national documents part it."""

    family: str
    given: str
    patronymic: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class PatientParty(NamedTuple):
    """`birth_date` as FHIR writes it; `sex` is code and word of the national code book."""

    local_id: str
    snils: str
    policy: str
    name: Name
    birth_date: str
    sex: tuple[str, str]


class Author(NamedTuple):
    """`position` is code and word of the national code book, empty where not known."""

    local_id: str
    snils: str
    name: Name
    position: tuple[str, str] = ("", "")


class Organization(NamedTuple):
    """`oid` is its number in the register of medical organizations."""

    oid: str
    name: str
    ogrn: str = ""
    address: str = ""


def patient_party(patient: Resource, *, is_strict: bool) -> PatientParty:
    """
    Raises:
        DeliveryRejected: something that the registry asks for is missing, or wrong in itself.
    """
    at = f"Patient/{patient.get('id', '')}"
    snils = _number(at, patient, SNILS_SYSTEM, snils_fault, is_strict=is_strict)
    if not snils:
        raise DeliveryRejected(f"{at} has no SNILS in Patient.identifier")
    sex = _SEX.get(patient.get("gender", ""))
    birth_date = str(patient.get("birthDate", ""))
    if sex is None or len(birth_date) != 10:
        raise DeliveryRejected(f"{at} needs Patient.gender and a whole Patient.birthDate")
    policy = _number(at, patient, POLICY_SYSTEM, policy_fault, is_strict=is_strict)
    return PatientParty(patient.get("id", ""), snils, policy, _name(at, patient), birth_date, sex)


def practitioner_author(practitioner: Resource, *, is_strict: bool) -> Author:
    """
    Raises:
        DeliveryRejected: as for the patient.
    """
    at = f"Practitioner/{practitioner.get('id', '')}"
    snils = _number(at, practitioner, SNILS_SYSTEM, snils_fault, is_strict=is_strict)
    if not snils:
        raise DeliveryRejected(f"{at} has no SNILS in Practitioner.identifier")
    position = ("", "")
    for qualification in practitioner.get("qualification") or ():
        for coding in (qualification.get("code") or {}).get("coding") or ():
            position = (str(coding.get("code", "")), str(coding.get("display", "")))
    return Author(practitioner.get("id", ""), snils, _name(at, practitioner), position)


def _number(
    at: str,
    resource: Resource,
    system: str,
    fault: Callable[[str], str | None],
    *,
    is_strict: bool,
) -> str:
    for identifier in resource.get("identifier") or ():
        if identifier.get("system") == system and identifier.get("value"):
            number = digits(str(identifier["value"]))
            if (wrong := fault(number)) is not None:
                if is_strict:
                    raise DeliveryRejected(f"{at}: {wrong}")
                _log.warning("an identifier fails its check", extra={"at": at, "fault": wrong})
            return number
    return ""


def _name(at: str, resource: Resource) -> Name:
    for name in _official_first(resource.get("name") or ()):
        given = name.get("given") or ()
        if name.get("family") and given:
            return Name(name["family"], given[0], given[1] if len(given) > 1 else "")
    raise DeliveryRejected(f"{at} has no name with family and given")


def _official_first(names: Iterable[Any]) -> list[Any]:
    return sorted(names, key=lambda name: name.get("use") != "official")
