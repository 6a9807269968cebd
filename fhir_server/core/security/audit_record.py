"""AuditRecord: one access as it is written down, before FHIR's words are put around it.

What is stored, and covered by the chain, are texts of sheets of them (`audit_sheet.py`); an
AuditEvent is a view of one (`audit_event.py`). A record alone is what was stored before.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from fhir_server.core.identity import is_resource_id
from fhir_server.core.security.principal import Principal

_ANONYMOUS = "anonymous"
_PATIENT = "Patient"


class Asker(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who asked, as the credentials said: `token` names the token and is not it."""

    kind: str = _ANONYMOUS
    client: str = ""
    subject: str = ""
    user: str = ""
    token: str = ""
    purposes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()


class Touched(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was touched of one patient ("" for nobody's): `Type/id/_history/version` each."""

    patient: str = ""
    what: tuple[str, ...] = ()


class AuditRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One access. `interaction` is FHIR's word where it has one; `action` is C, R, U, D or E.

    `outcome` is FHIR's code: 0 success, 4 refused, 8 failed; `status` is HTTP's. `request`
    is what was asked ("GET /fhir/Patient/1"), `form` what was posted for a search.
    """

    interaction: str
    action: str
    outcome: str = "0"
    status: int = 0
    asker: Asker = Asker()
    address: str = ""
    request_id: str = ""
    request: str = ""
    form: str = ""
    reason: str = ""
    touched: tuple[Touched, ...] = ()


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AuditRecord)


def format(record: AuditRecord) -> bytes:  # noqa: A001 - `audit_record.format`, beside `parse`
    """The text that is stored."""
    return _encoder.encode(record)


def parse(text: bytes) -> AuditRecord:
    """What `format` wrote.

    Raises:
        ValueError: it did not write this.
    """
    return _decoder.decode(text)


def asker(principal: Principal, purposes: tuple[str, ...] = ()) -> Asker:
    """What is written down of who asked; `purposes` are what the request adds to the token's."""
    return Asker(
        principal.kind,
        principal.client_id,
        principal.subject,
        str(principal.fhir_user or ""),
        principal.token_id,
        (*principal.purposes, *purposes),
        tuple(sorted(principal.roles)),
    )


def patients(record: AuditRecord) -> tuple[str, ...]:
    """Whose list the record belongs on: `Patient/42` each, the one who asked among them."""
    found = dict.fromkeys(each.patient for each in record.touched if each.patient)
    if is_patient(record.asker.user):
        found[record.asker.user] = None
    return tuple(found)


def is_patient(user: str) -> bool:
    """Whether it is a patient who asks."""
    return user.startswith("Patient/")


def by_patient(touched: Iterable[tuple[str, str]]) -> tuple[Touched, ...]:
    """`(patient, what)` pairs grouped by patient; a `what` of "" is the patient alone."""
    found: dict[str, list[str]] = {}
    for patient, what in touched:
        of_patient = found.setdefault(patient, [])
        if what:
            of_patient.append(what)
    return tuple(Touched(patient, tuple(what)) for patient, what in found.items())


_ACTIONS = {
    "read": "R",
    "vread": "R",
    "history-instance": "R",
    "history-type": "R",
    "history-system": "R",
    "create": "C",
    "update": "U",
    "patch": "U",
    "delete": "D",
    "readings": "C",
    "enrolments": "C",
}


def action_of(interaction: str, method: str) -> str:
    """FHIR's code for what an interaction does; what is none of CRUD is executed."""
    action = _ACTIONS.get(interaction, "E")
    return "R" if action == "C" and method in ("GET", "HEAD") else action


def outcome_of(status: int) -> str:
    """FHIR's code for how a request ended."""
    if status < 400:
        return "0"
    return "4" if status < 500 else "8"


_MOST_NAMED = 100


def named_patients(segments: Sequence[str], params: Iterable[tuple[str, str]]) -> list[str]:
    """The patients that a request names: in its path, or as what it searches for."""
    found = [
        after
        for name, after in pairwise(segments)
        if name == _PATIENT and after[:1] not in ("$", "_")
    ]
    for name, value in params:
        bare, _, modifier = name.partition(":")
        if bare in ("patient", "subject") and modifier in ("", _PATIENT):
            for part in value.split(","):
                kind, _, patient_id = part.rpartition("/")
                if kind == _PATIENT or (not kind and (bare == "patient" or modifier)):
                    found.append(patient_id)
    return [f"{_PATIENT}/{each}" for each in found if is_resource_id(each)][:_MOST_NAMED]
