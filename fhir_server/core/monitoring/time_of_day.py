"""Times of the day: the parts of it that FHIR's event codes mean, and those around a time.

https://hl7.org/fhir/R4/valueset-event-timing.html

When somebody rises or eats is not known, so an event is the stretch in which it usually
is. Before and after a meal are the stretch of the meal, moved by the offset.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

DAY_MINUTES = 24 * 60
# How far from its time a measurement is still on time.
TOLERANCE_MINUTES = 120


class Slot(NamedTuple):
    """A part of a day in minutes from its midnight; it may end on the next day."""

    start: int
    end: int


def _hours(start: float, end: float) -> Slot:
    return Slot(int(start * 60), int(end * 60))


_BREAKFAST, _LUNCH, _DINNER = _hours(5, 11), _hours(11, 16), _hours(16, 22)
_EVENTS = {
    "MORN": _hours(4, 12),
    "MORN.early": _hours(4, 8),
    "MORN.late": _hours(8, 12),
    "NOON": _hours(11, 14),
    "AFT": _hours(12, 18),
    "AFT.early": _hours(12, 15),
    "AFT.late": _hours(15, 18),
    "EVE": _hours(17, 24),
    "EVE.early": _hours(17, 20),
    "EVE.late": _hours(20, 24),
    "NIGHT": _hours(21, 28),
    "PHS": _hours(21, 28),
    "WAKE": _hours(4, 11),
    "HS": _hours(20, 26),
    "CM": _BREAKFAST,
    "ACM": _BREAKFAST,
    "PCM": _BREAKFAST,
    "CD": _LUNCH,
    "ACD": _LUNCH,
    "PCD": _LUNCH,
    "CV": _DINNER,
    "ACV": _DINNER,
    "PCV": _DINNER,
}
_EACH_MEAL = {
    "C": ("CM", "CD", "CV"),
    "AC": ("ACM", "ACD", "ACV"),
    "PC": ("PCM", "PCD", "PCV"),
}


def slots_of_events(codes: Iterable[str], offset: int) -> tuple[Slot, ...]:
    """The stretches of these events, moved by `offset` minutes, in order and apart.

    Raises:
        ValueError: a code is none of event-timing.
    """
    found: set[Slot] = set()
    for code in codes:
        for each in _EACH_MEAL.get(code, (code,)):
            if each not in _EVENTS:
                raise ValueError("no such event of the day")
            # Before a meal or sleep the minutes are counted backwards.
            minutes = -offset if each.startswith("AC") or each == "HS" else offset
            start, end = _EVENTS[each]
            found.add(Slot(start + minutes, end + minutes))
    return apart(sorted(found))


def around(times: Iterable[int]) -> tuple[Slot, ...]:
    """The stretches around these times, in minutes of the day; neighbors meet half way."""
    ordered = sorted(set(times))
    slots = [Slot(t - TOLERANCE_MINUTES, t + TOLERANCE_MINUTES) for t in ordered]
    for index, (one, other) in enumerate(itertools.pairwise(ordered)):
        half = (one + other) // 2
        slots[index] = slots[index]._replace(end=min(slots[index].end, half))
        slots[index + 1] = slots[index + 1]._replace(start=max(slots[index + 1].start, half))
    return tuple(slots)


def apart(slots: Sequence[Slot]) -> tuple[Slot, ...]:
    """The same in order; two that overlap share what they have in common half and half."""
    found: list[Slot] = []
    for slot in slots:
        if found and slot.start < found[-1].end:
            half = (slot.start + min(slot.end, found[-1].end)) // 2
            found[-1] = found[-1]._replace(end=half)
            slot = slot._replace(start=half)
        found.append(slot)
    return tuple(slot for slot in found if slot.start < slot.end)
