"""A prescription of a device kit before it is FHIR: who gets which devices, to measure what.

An enrolment mapping extracts it from the payload of the platform that prescribes;
`core/monitoring` builds the resources. Dates and times are FHIR texts of any precision.
"""

from decimal import Decimal
from typing import NamedTuple

from fhir_server.core.mapping.reading import IdentifierToken


class Coding(NamedTuple):
    """A code of a system, as FHIR's Coding."""

    system: str
    code: str
    display: str = ""


class Person(NamedTuple):
    """A patient or a physician, as far as the payload knows; `identifiers` is never empty.

    `gender` is a code of administrative-gender, `birth_date` a FHIR date, both "" where
    the payload is silent.
    """

    identifiers: tuple[IdentifierToken, ...]
    family: str = ""
    given: tuple[str, ...] = ()
    birth_date: str = ""
    gender: str = ""
    phone: str = ""


class PrescribedDevice(NamedTuple):
    """A device of the kit; `identifiers` is never empty and each has a system.

    `kind` is the mapping language's word for the type ("blood-pressure-cuff"), `types` its
    codes. `is_auxiliary`: not registered as a medical device.
    """

    identifiers: tuple[IdentifierToken, ...]
    kind: str
    types: tuple[Coding, ...]
    name: str = ""
    manufacturer: str = ""
    model: str = ""
    is_auxiliary: bool = False


class Timing(NamedTuple):
    """How often to measure: `frequency` times in each `period` of `period_unit` (UCUM time).

    `times_of_day` are ``hh:mm:ss``, `when` codes of event-timing ("ACM"), `days_of_week`
    "mon" to "sun". FHIR lets `when` and `times_of_day` exclude each other.
    """

    frequency: int = 1
    period: Decimal = Decimal(1)
    period_unit: str = "d"
    times_of_day: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    days_of_week: tuple[str, ...] = ()


class Activity(NamedTuple):
    """One measurement that is asked for.

    `kind` is a reading's kind ("blood-pressure"); `codes` are all codes that readings of
    that kind may carry, so a plan for glucose is answered in either unit.
    """

    kind: str
    codes: tuple[Coding, ...]
    timing: Timing | None = None
    text: str = ""


class Limits(NamedTuple):
    """A Goal's target: the value of `codes` stays from `low` to `high`, either may be open.

    `name` is what is limited: a kind, or kind and component ("blood-pressure.systolic").
    """

    name: str
    codes: tuple[Coding, ...]
    unit: str
    low: Decimal | None = None
    high: Decimal | None = None


class Prescription(NamedTuple):
    """A kit as it was prescribed.

    `identifier` is the order's own number, so that the same order sent twice is one.
    `start` and `end` bound the plan and the assignment of the devices; `end` may be ""
    (open). `plan` is the kind of plan ("hypertension").
    """

    identifier: IdentifierToken
    plan: str
    start: str
    patient: Person
    devices: tuple[PrescribedDevice, ...]
    activities: tuple[Activity, ...] = ()
    limits: tuple[Limits, ...] = ()
    end: str = ""
    title: str = ""
    physician: Person | None = None
    note: str = ""
