"""What the registry's error codes mean: whose they are, and whether sending again can help.

The codes are those of the registry's message code book (1.2.643.5.1.13.13.99.2.305); one
that is not here is somebody's to look up, and sending it again would not mend it.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple


class Owner(StrEnum):
    """Who has to do something."""

    CLINIC = "clinic"
    HOSPITAL_SYSTEM = "hospital-system"
    INTEGRATOR = "integrator"
    REGISTRY = "registry"


class Again(StrEnum):
    """Whether the same document may be sent again."""

    NEVER = "never"
    LATER = "later"
    RECONCILE = "reconcile"


class Fault(NamedTuple):
    """`code` in its one spelling; `delay` is in seconds, before it is sent again."""

    code: str
    kind: str
    owner: Owner
    again: Again
    delay: float = 0.0


class RegistryError(NamedTuple):
    """One error as the registry says it. `message` may hold a patient's data."""

    code: str
    message: str = ""


RATE_LIMIT = "RATE_LIMIT"
LONGEST_WAIT = 900.0
_MINUTE = 60.0
_FILE_AGAIN = 300.0
_REGISTRY_AGAIN = LONGEST_WAIT

_KINDS: Mapping[str, tuple[Owner, Again, float, str]] = {
    "registered before": (Owner.HOSPITAL_SYSTEM, Again.RECONCILE, 0.0, "NOT_UNIQUE_PROVIDED_ID"),
    "rate": (Owner.REGISTRY, Again.LATER, _MINUTE, RATE_LIMIT),
    "file fetch": (
        Owner.HOSPITAL_SYSTEM,
        Again.LATER,
        _FILE_AGAIN,
        "MIS_NOT_AVAILABLE MIS_ERROR RMIS_ERROR FILE_WAS_NOT_SENT GET_DOCUMENT_FILE_ERROR"
        " REGISTRY_ITEM_NOT_FOUND",
    ),
    "registry": (
        Owner.REGISTRY,
        Again.LATER,
        _REGISTRY_AGAIN,
        "INTERNAL_ERROR RUNTIME_ERROR ASYNC_RESPONSE_TIMEOUT VALSYS_INTERNAL_ERROR"
        " VALSYS_REJECT XML_VALIDATOR_ERROR SCHEMA_PROCESSING_ERROR",
    ),
    "certificate authority": (
        Owner.REGISTRY,
        Again.LATER,
        _REGISTRY_AGAIN,
        "CA_UNAVAILABLE CA_INACCESSIBILITY",
    ),
    "patient": (
        Owner.CLINIC,
        Again.NEVER,
        0.0,
        "NO_SNILS INVALID_SNILS PATIENT_MPI_MISMATCH PATIENT_CREATION_ERROR PATIENT_NOT_FOUND"
        " PATIENT_OCCURRENCE_MISMATCH PATIENT_ALREADY_REGISTERED PATIENT_NAME_NOT_FOUND"
        " PATIENT_SURNAME_NOT_FOUND DUPLICATE_PATIENT_FOUND ADDITIONAL_INFO_REQUIRED"
        " SERIES_REQUIRED RECIPIENT_INFO_MISMATCH RECIPIENT_SNILS_MISMATCH"
        " RECIPIENT_FAMILY_MISMATCH RECIPIENT_NAME_MISMATCH RECIPIENT_PATRONYMIC_MISMATCH",
    ),
    "staff": (
        Owner.CLINIC,
        Again.NEVER,
        0.0,
        "PERSON_NOT_FOUND PERSON_CARD_NOT_FOUND PERSON_POST_IN_FRMR_MISMATCH"
        " POSITION_TO_ROLE_MISMATCH SIGNER_ORG_MISMATCH VALUE_MISMATCH_METADATA_AND_FRMR"
        " NO_SPECIALITY INVALID_DOCTOR_FAMILY INVALID_DOCTOR_NAME INVALID_DOCTOR_PATRONYMIC"
        " INVALID_DOCTOR_INFO INVALID_DOCTOR_ID INVALID_DOCTOR_SNILS"
        " LEGAL_AUTHENTICATOR_NOT_FOUND",
    ),
    "organization": (
        Owner.CLINIC,
        Again.NEVER,
        0.0,
        "ORG_NOT_FOUND_IN_FRMO NO_ORG_ON_DATE NO_DEPARTMENT ORGANIZATION_NOT_FOUND",
    ),
    "access": (
        Owner.INTEGRATOR,
        Again.NEVER,
        0.0,
        "ACCESS_DENIED DISABLED_RMIS NO_RMIS RMIS_REGION_MISMATCH ORGANIZATION_NOT_REGISTERED",
    ),
    "certificate": (
        Owner.CLINIC,
        Again.NEVER,
        0.0,
        "SIGNATURE_VERIFICATION_ERROR SIGNATURE_DECODING_ERROR NO_SIGNATURE"
        " CANT_BUILD_CERT_CHAIN_TO_ACCREDITED_CA_CERT DOC_DATE_MISMATCH_CERT_NOT_AFTER"
        " DOC_DATE_MISMATCH_CERT_NOT_BEFORE INVALID_CERT_KEY_USAGE NO_END_ENTITY_CERTIFICATE"
        " ORG_SIGNATURE_OCCURRENCE_MISMATCH ROLE_OCCURRENCE_MISMATCH UNKNOWN_ALGORITHM"
        " VALUE_MISMATCH_METADATA_AND_CERTIFICATE SIGNATURE_DUPLICATION MULTIPLE_SIGNERS"
        " WRONG_SIGNATURE_FORMAT PERSONAL_SIG_CERT_NOT_ACTUAL_ON_DOC_CREATION_DT"
        " PERSONAL_SIG_CERT_NOT_ACTUAL_ON_CHECK_DT",
    ),
    "code book": (
        Owner.HOSPITAL_SYSTEM,
        Again.NEVER,
        0.0,
        "OBJECT_NOT_FOUND INVALID_DICTIONARY INVALID_DICTIONARY_OID INVALID_DICTIONARY_VERSION"
        " INVALID_DICTIONARY_MAPPING INVALID_ELEMENT_VALUE_CODE INVALID_ELEMENT_VALUE_NAME",
    ),
    "structure": (
        Owner.HOSPITAL_SYSTEM,
        Again.NEVER,
        0.0,
        "VALIDATION_ERROR XML_VALIDATION_ERROR INVALID_CONTENT INVALID_DOC_CONTENT_TYPE"
        " INVALID_PLUGGABLE_ATTRS PLUGGABLE_ATTRS_OCCURRENCE_MISMATCH DIGEST_MISMATCH"
        " INCONSISTENT_DIGESTS",
    ),
    "registration": (
        Owner.HOSPITAL_SYSTEM,
        Again.NEVER,
        0.0,
        "ATTRIBUTE_MISMATCH CAN_NOT_ASSOCIATE CANT_REG_VERSION NO_DOCUMENT_KIND_ON_DATE"
        " NO_ROLE_POLICY_ON_DATE NOT_UNIQUE_ASSOCIATION NOT_UNIQUE_ITEM WRONG_CREATION_DATE"
        " WRONG_MESSAGE_ID RESTRICT_NEW_VERSION TIME_EXPIRED_ERROR",
    ),
}

_FAULTS: Mapping[str, Fault] = {
    code: Fault(code, kind, owner, again, delay)
    for kind, (owner, again, delay, codes) in _KINDS.items()
    for code in codes.split()
}

# The registry itself has it both ways.
_MISSPELT = ("RECEPIENT_", "RECIPIENT_")


def classify(code: str) -> Fault:
    """What `code` means, whichever way it is spelt."""
    canonical = code.strip().upper()
    if canonical.startswith(_MISSPELT[0]):
        canonical = _MISSPELT[1] + canonical.removeprefix(_MISSPELT[0])
    return _FAULTS.get(canonical) or Fault(canonical, "unknown", Owner.INTEGRATOR, Again.NEVER)


def worst(errors: Iterable[RegistryError]) -> Fault:
    """The one that decides: what nobody can mend by sending again, else the longest wait.

    That a document is there already outweighs all: whatever else is said of it is of no use.
    """
    found = [classify(error.code) for error in errors]
    for again in (Again.RECONCILE, Again.NEVER):
        for fault in found:
            if fault.again is again:
                return fault
    return max(found, key=lambda fault: fault.delay, default=classify("UNNAMED"))


def all_faults() -> Mapping[str, Fault]:
    """Every code that is known, for the documentation's table and the tests."""
    return _FAULTS
