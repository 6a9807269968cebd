"""Sheets: what one commit writes into the audit trail, the records of all its requests.

A sheet is one text, and so one link of the chain: however many read at once, each pays for
a line of it (ADR 0035). Who asked is written once a sheet and referred to by number. A text
that begins with a brace is a record alone, as all were before there were sheets.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_record import Asker, AuditRecord, Touched

_BRACE = b"{"
# One link should not be read whole for little, nor be larger than a database takes.
_LONG_BYTES = 64 * 1024

Pairs = Sequence[tuple[str, Sequence[str]]]
"""What was touched of each patient ("" for nobody's), as `Touched` has it."""


class TrailEntry(NamedTuple):
    """A record to be written: its text, and the patients ("Patient/42") it is found by.

    `who` is what it shares with other records of the same asker. One without it has a sheet of
    its own, and `audit_record.format` made its text.
    """

    text: bytes
    patients: tuple[str, ...] = ()
    who: bytes = b""


class Sheet(NamedTuple):
    """A text to be written, whose lists its records are on, and how many they are."""

    text: bytes
    patients: tuple[str, ...]
    records: int


class _Who(msgspec.Struct, frozen=True, array_like=True):
    kind: str
    client: str
    subject: str
    user: str
    token: str
    purposes: tuple[str, ...]
    roles: tuple[str, ...]
    address: str


class _Look(msgspec.Struct, frozen=True, array_like=True):
    """Without its end where it says nothing: most were answered as they were asked."""

    interaction: str
    action: str
    request_id: str
    request: str
    touched: tuple[tuple[str, tuple[str, ...]], ...]
    outcome: str = "0"
    status: int = 0
    form: str = ""
    reason: str = ""


class _Whose(msgspec.Struct, frozen=True, array_like=True):
    """The part of a `_Look` that says whose lists it is on."""

    interaction: msgspec.Raw
    action: msgspec.Raw
    request_id: msgspec.Raw
    request: msgspec.Raw
    touched: tuple[tuple[str, msgspec.Raw], ...]


_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(tuple[tuple[_Who, ...], tuple[int, ...], tuple[_Look, ...]])
_whose = msgspec.json.Decoder(tuple[tuple[_Who, ...], msgspec.Raw, tuple[_Whose, ...]])


def format_who(asker: Asker, address: str) -> bytes:
    """`TrailEntry.who`."""
    return _encode(
        (
            asker.kind,
            asker.client,
            asker.subject,
            asker.user,
            asker.token,
            asker.purposes,
            asker.roles,
            address,
        )
    )


def format_line(
    interaction: str, action: str, request_id: str, request: str, touched: Pairs, *ending: str | int
) -> bytes:
    """`TrailEntry.text`; `ending` is outcome, status, form and reason, where they say anything."""
    return _encode((interaction, action, request_id, request, touched, *ending))


def entry_of(record: AuditRecord) -> TrailEntry:
    """Any record as it is written among others."""
    ending = (record.outcome, record.status, record.form, record.reason)
    return TrailEntry(
        format_line(
            record.interaction,
            record.action,
            record.request_id,
            record.request,
            [(each.patient, each.what) for each in record.touched],
            *(() if ending == ("0", 0, "", "") else ending),
        ),
        audit_record.patients(record),
        format_who(record.asker, record.address),
    )


def sheets(entries: Iterable[TrailEntry]) -> Iterator[Sheet]:
    """What is written of `entries`, in their order."""
    gathered: list[TrailEntry] = []
    length = 0
    for entry in entries:
        if gathered and (not entry.who or length > _LONG_BYTES):
            yield _sheet(gathered)
            gathered, length = [], 0
        if entry.who:
            gathered.append(entry)
            length += len(entry.text)
        else:
            yield Sheet(entry.text, entry.patients, 1)
    if gathered:
        yield _sheet(gathered)


def _sheet(entries: Sequence[TrailEntry]) -> Sheet:
    texts, patients, askers = zip(*entries, strict=True)
    known = {who: number for number, who in enumerate(dict.fromkeys(askers))}
    numbers = _encode([known[who] for who in askers])
    text = b"[[%b],%b,[%b]]" % (b",".join(known), numbers, b",".join(texts))
    return Sheet(text, tuple(set().union(*patients)), len(entries))


def parse(text: bytes) -> tuple[AuditRecord, ...]:
    """The records of a sheet, in the order in which they were written.

    Raises:
        ValueError: it is none.
    """
    if text.startswith(_BRACE):
        return (audit_record.parse(text),)
    who, numbers, looks = _decoder.decode(text)
    if len(numbers) != len(looks) or not all(0 <= number < len(who) for number in numbers):
        raise ValueError("a sheet says of each record who asked")
    askers = [Asker(w.kind, w.client, w.subject, w.user, w.token, w.purposes, w.roles) for w in who]
    return tuple(
        AuditRecord(
            look.interaction,
            look.action,
            look.outcome,
            look.status,
            askers[number],
            who[number].address,
            look.request_id,
            look.request,
            look.form,
            look.reason,
            tuple(Touched(*each) for each in look.touched),
        )
        for number, look in zip(numbers, looks, strict=True)
    )


def patients_of(text: bytes) -> frozenset[str]:
    """Whose lists the records of a sheet are on; nobody's if it is no sheet any more."""
    try:
        if text.startswith(_BRACE):
            return frozenset(audit_record.patients(audit_record.parse(text)))
        who, _, looks = _whose.decode(text)
    except ValueError:
        return frozenset()
    return frozenset(_named(who, looks))


def _named(who: Iterable[_Who], looks: Iterable[_Whose]) -> Iterator[str]:
    for asker in who:
        if audit_record.is_patient(asker.user):
            yield asker.user
    for look in looks:
        for patient, _ in look.touched:
            if patient:
                yield patient


def mark_of(patient: str) -> bytes:
    """What stands in every sheet that is on the list of `patient`, and in few others."""
    return _encode(patient)
