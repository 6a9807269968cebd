"""What is known of measurements: which codes, units, profile and category belong together.

The data is `terminology/measurements.json`, and the same file in extra folders. Stage two
writes from it; `check` compares with it what a mapping says.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar

import msgspec

from fhir_server.core.mapping.prescription import Coding

LOINC = "http://loinc.org"
MDC = "urn:iso:std:iso:11073:10101"
UCUM = "http://unitsofmeasure.org"
SNOMED = "http://snomed.info/sct"


class Code(msgspec.Struct, frozen=True):
    """The LOINC codes of a value in one of these units; of a panel, no units at all."""

    loinc: dict[str, str] = {}
    units: tuple[str, ...] = ()

    def codings(self) -> tuple[Coding, ...]:
        return tuple(Coding(LOINC, code, display) for code, display in self.loinc.items())


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where to where a value is believed, both included."""

    minimum: Decimal
    maximum: Decimal

    def __post_init__(self) -> None:
        if self.minimum > self.maximum:
            raise ValueError("the minimum is above the maximum")


class CodedValue(msgspec.Struct, frozen=True):
    """One value of a component that is a word, not a number."""

    display: str
    mdc: dict[str, str] = {}


class Quality(msgspec.Struct, frozen=True):
    """What a value measures. `values` is set for a component whose values are words,
    `free_text` for one whose words are the device's own.

    `minimum` and `maximum` are what is possible at all, in the stored unit, not what is
    healthy: beyond them there was no measurement. `plausible` is what is believed without
    a person having looked, by unit.
    """

    display: str
    codes: tuple[Code, ...]
    mdc: dict[str, str] = {}
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    plausible: dict[str, Bounds] = {}
    required: bool = False
    values: dict[str, CodedValue] = {}
    free_text: bool = False

    def code_for(self, unit: str) -> Code | None:
        """The codes that fit `unit`; those of a panel fit no unit."""
        for code in self.codes:
            if unit in code.units or (not unit and not code.units):
                return code
        return None

    def units(self) -> tuple[str, ...]:
        return tuple(unit for code in self.codes for unit in code.units)

    def loinc_codes(self) -> tuple[str, ...]:
        return tuple(code for option in self.codes for code in option.loinc)


class StatusBit(msgspec.Struct, frozen=True):
    """A flag of the device as one bit of an IEEE 11073 bit string."""

    bit: int
    display: str = ""


class Status(msgspec.Struct, frozen=True):
    """The bit string that a device's flags are, and which flag is which of its bits."""

    mdc: str
    display: str
    bits: dict[str, StatusBit]


class Measurement(Quality, frozen=True, kw_only=True):
    """A kind of reading. With components and no units it is a panel, without a value.

    `ascending` names components none of which is believed to be above the next. `profiles`
    are all that its Observations claim.
    """

    category: str
    profiles: tuple[str, ...] = ()
    status: Status | None = None
    components: dict[str, Quality] = {}
    ascending: tuple[str, ...] = ()

    @property
    def is_panel(self) -> bool:
        return bool(self.components) and not self.units()


class Flag(msgspec.Struct, frozen=True):
    """Something a device says about a reading; `element` is where FHIR has it.

    Without a `system` and `code` of a standard, the flag's name is our own code. `words` say
    it plainer than that standard's `display`.
    """

    display: str
    words: str = ""
    questionable: bool = False
    element: Literal["interpretation", "method"] = "interpretation"
    system: str = ""
    code: str = ""

    @property
    def text(self) -> str:
        return self.words or self.display


class Conversion(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """target = (source - subtract) * multiply / divide"""

    source: str
    target: str
    multiply: Decimal = Decimal(1)
    divide: Decimal = Decimal(1)
    subtract: Decimal = Decimal(0)


class DeviceType(msgspec.Struct, frozen=True):
    """A type of device that a kit may hold."""

    display: str
    mdc: dict[str, str] = {}
    snomed: str = ""

    def codings(self) -> tuple[Coding, ...]:
        codings = [Coding(MDC, code, display) for code, display in self.mdc.items()]
        if self.snomed:
            codings.append(Coding(SNOMED, self.snomed))
        return tuple(codings)


class Owner(NamedTuple):
    """Whose code it is: a kind ("blood-pressure") or one of its components."""

    kind: str
    component: str = ""

    def __str__(self) -> str:
        return f"{self.kind}.{self.component}" if self.component else self.kind


class Knowledge(msgspec.Struct, frozen=True):
    """All of it."""

    measurements: dict[str, Measurement] = {}
    flags: dict[str, Flag] = {}
    units: dict[str, str] = {}
    conversions: tuple[Conversion, ...] = ()
    devices: dict[str, DeviceType] = {}

    def conversion(self, source: str, target: str) -> Conversion | None:
        for found in self.conversions:
            if (found.source, found.target) == (source, target):
                return found
        return None

    def quality(self, owner: Owner) -> Quality | None:
        """The measurement, or the component of one, of that name."""
        found = self.measurements.get(owner.kind)
        if found is None or not owner.component:
            return found
        return found.components.get(owner.component)

    def owners(self) -> Iterator[tuple[Owner, Quality]]:
        """Every measurement and component."""
        for kind, measurement in self.measurements.items():
            yield Owner(kind), measurement
            for name, component in measurement.components.items():
                yield Owner(kind, name), component

    def owners_of_loinc(self, code: str) -> tuple[Owner, ...]:
        return tuple(o for o, quality in self.owners() if code in quality.loinc_codes())

    def owners_of_mdc(self, code: str) -> tuple[Owner, ...]:
        return tuple(o for o, quality in self.owners() if code in quality.mdc)

    def owners_of_profile(self, url: str) -> tuple[str, ...]:
        return tuple(kind for kind, found in self.measurements.items() if url in found.profiles)


def parse(texts: Iterable[str | bytes]) -> Knowledge:
    """The knowledge of all `texts`; a later one adds to an earlier one, or replaces a name.

    Raises:
        ValueError: a text is not of this shape; the message names the place.
    """
    read = [msgspec.json.decode(text, type=Knowledge) for text in texts]
    return Knowledge(
        measurements=_joined(k.measurements for k in read),
        flags=_joined(k.flags for k in read),
        units=_joined(k.units for k in read),
        conversions=tuple(c for k in reversed(read) for c in k.conversions),
        devices=_joined(k.devices for k in read),
    )


_T = TypeVar("_T")


def _joined(parts: Iterable[Mapping[str, _T]]) -> dict[str, _T]:
    return {name: value for part in parts for name, value in part.items()}


def coding_json(coding: Coding) -> dict[str, Any]:
    """A FHIR Coding; an unknown display is left out."""
    found = {"system": coding.system, "code": coding.code}
    if coding.display:
        found["display"] = coding.display
    return found


def mdc_coding(table: Mapping[str, str], code: str) -> Coding:
    """The MDC coding of one of a table's codes."""
    return Coding(MDC, code, table[code])
