"""What a document says, before it is XML: two kinds, a referral and a protocol of results."""

from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from adapters.national_registry.documents.parties import Author, Organization, PatientParty
from adapters.national_registry.documents.summary import Adherence, Row


class Kind(StrEnum):
    """Named by its code in the registry's book of document kinds."""

    REFERRAL = "282"
    PROTOCOL = "262"

    @property
    def guide(self) -> str:
        """The OID of its implementation guide."""
        return _KINDS[self][0]

    @property
    def heading(self) -> str:
        return _KINDS[self][1]


_KINDS = {
    Kind.REFERRAL: (
        "1.2.643.5.1.13.13.15.134.1",
        "Направление на дистанционное наблюдение за состоянием здоровья",
    ),
    Kind.PROTOCOL: (
        "1.2.643.5.1.13.13.15.123.1",
        "Протокол дистанционного наблюдения за состоянием здоровья",
    ),
}


class DeviceLine(NamedTuple):
    """`number` is what names this very device: its serial number or first identifier."""

    name: str
    model: str
    manufacturer: str
    number: str
    is_auxiliary: bool


class Diagnosis(NamedTuple):
    """`code` is of ICD-10, "" where the Condition has none."""

    code: str
    text: str


class Activity(NamedTuple):
    """What is to be measured, and how often in words."""

    what: str
    how_often: str


class LimitLine(NamedTuple):
    """The limits of one thing that is measured, in words."""

    what: str
    limits: str


class Content(NamedTuple):
    """Everything in it was decided: composing it twice gives the same bytes.

    `local_uid` is the UUID of this version; `set_id` that of all versions, `number` counts
    them from 1, `replaces` is the one before. `first` and `last` are days of the period,
    both in it. `created` has a zone.
    """

    kind: Kind
    local_uid: str
    set_id: str
    number: int
    replaces: str
    created: datetime
    first: date
    last: date | None
    title: str
    patient: PatientParty
    author: Author
    organization: Organization
    diagnoses: tuple[Diagnosis, ...] = ()
    devices: tuple[DeviceLine, ...] = ()
    activities: tuple[Activity, ...] = ()
    limits: tuple[LimitLine, ...] = ()
    rows: tuple[Row, ...] = ()
    adherence: tuple[Adherence, ...] = ()
