"""A correction of who had a device: the stretches of time whose readings it may concern."""

from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import Assignment

Held = tuple[ResourceKey, Assignment]
"""A device and who has it, as `parse_assignment` gives them."""


def concerned(before: Held | None, after: Held | None) -> tuple[tuple[ResourceKey, DateRange], ...]:
    """The devices and stretches in which `after` may say something else than `before`.

    Where only an end was moved, as when a device is handed back, it is no more than what
    lies between the two ends: a history of years is not looked at again for it.
    """
    if before is not None and after is not None and before[0] == after[0]:
        device, old = before
        new = after[1]
        if old.patient == new.patient:
            stretches = (
                _between(old.period.start, new.period.start),
                _ends(old, new),
            )
            return tuple((device, stretch) for stretch in stretches if stretch is not None)
        if old.period.overlaps(new.period):
            start = min(old.period.start, new.period.start)
            return ((device, DateRange(start, max(old.period.end, new.period.end))),)
    return tuple((device, held.period) for device, held in filter(None, (before, after)))


def _between(one: int, other: int) -> DateRange | None:
    return None if one == other else DateRange(min(one, other), max(one, other))


def _ends(old: Assignment, new: Assignment) -> DateRange | None:
    """Where the two end otherwise: the last second of an end is part of it."""
    if (old.leaving, old.period.end) == (new.leaving, new.period.end):
        return None
    first = min(old.leaving, new.leaving, old.period.end, new.period.end)
    return DateRange(first, max(old.period.end, new.period.end))
