"""Forms of readings: what all Observations of one rule and shape share is made once.

Stage two proper is `Template.project`; a form is made of what it gave and says the same of
every other reading of that shape. What is rare (a note, a duration, a trace, a corrected
clock) has no form and is projected each time.
"""

from collections.abc import Callable, Hashable
from datetime import datetime
from decimal import Decimal
from typing import Any

from fhir_server.core.form import Form, Gap, Path
from fhir_server.core.mapping.key import reading_key
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Measured, Reading
from fhir_server.core.resource_json import Resource
from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.version import format_instant

Values = tuple[str | Decimal, ...]

# Each is some ten kilobytes; a mapping of many flags has many shapes.
_MOST_FORMS = 500

_SUBJECT: Gap = (("subject", "reference"), ("performer", 0, "reference"))
_is_date_time = PRIMITIVES["dateTime"].matcher()


class Forms:
    """The forms of one template; `words` are the values that it knows as words."""

    def __init__(self, is_panel: bool, is_known_word: Callable[[Measured], bool]) -> None:
        self._is_panel = is_panel
        self._is_known_word = is_known_word
        self._forms: dict[Hashable, Form] = {}

    def shape(self, reading: Reading, placement: Placement) -> Hashable | None:
        """What the form of `reading` is found by; None if it is not one of many."""
        if (
            not reading.effective
            or reading.duration
            or reading.note
            or reading.focus
            or reading.derived_from
            or _is_date_time(reading.effective) is None
        ):
            return None
        values: list[Hashable] = []
        for measured in reading.values:
            name, value, unit, comparator, absent, original, original_unit = measured
            kind = type(value)
            if kind is Decimal:
                # A number is a gap, so the shape has but its type.
                values.append((name, kind, unit, comparator, original is None, original_unit))
            elif value is None:
                values.append((name, None, unit, absent))
            elif kind is bool or (kind is str and self._is_known_word(measured)):
                values.append((name, value, unit))
            else:
                return None
        return (
            placement.is_auxiliary,
            len(placement.based_on),
            reading.flags,
            reading.supplements,
            *values,
        )

    def find(self, shape: Hashable) -> Form | None:
        return self._forms.get(shape)

    def add(
        self, shape: Hashable, reading: Reading, placement: Placement, specimen: Resource
    ) -> Form:
        """The form whose specimen is what `reading` was projected to."""
        if len(self._forms) >= _MOST_FORMS:
            self._forms.clear()
        form = self._forms[shape] = Form(specimen, self._gaps(reading, placement))
        return form

    def _gaps(self, reading: Reading, placement: Placement) -> list[Gap]:
        """The gaps of a shape, in the order of `values`."""
        gaps: list[Gap] = [
            (("identifier", 0, "value"),),
            _SUBJECT,
            (("device", "reference"),),
            (("effectiveDateTime",),),
            (("issued",),),
        ]
        gaps += ((("basedOn", n, "reference"),) for n in range(len(placement.based_on)))
        for number, measured in enumerate(reading.values):
            owner: Path = ("component", number)
            if not self._is_panel:
                owner = ("component", number - 1) if number else ()
            if type(measured.value) is Decimal:
                gaps.append(((*owner, "valueQuantity", "value"),))
                if measured.original is not None:
                    original = ("valueQuantity", "extension", 0, "valueQuantity", "value")
                    gaps.append(((*owner, *original),))
        return gaps


def form_values(reading: Reading, placement: Placement, issued: datetime) -> Values:
    """What fills the gaps of a reading's form; `issued` is aware."""
    patient, device = placement.patient, placement.device
    values: list[Any] = [
        reading_key(reading, placement),
        f"{patient[0]}/{patient[1]}",
        f"{device[0]}/{device[1]}",
        reading.effective,
        format_instant(issued),
    ]
    if placement.based_on:
        values += map(str, placement.based_on)
    for measured in reading.values:
        if type(measured[1]) is Decimal:
            values.append(measured[1])
            if measured[5] is not None:
                values.append(measured[5])
    return tuple(values)
