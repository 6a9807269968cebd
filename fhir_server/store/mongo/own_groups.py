"""Own groups: what this process alone has committed last, so that nobody need be asked.

Nearly every group asks whether some resource of a type was changed since the one before. As
long as the commit order goes on where this process left it, it knows.
"""

from collections.abc import Iterable, Sequence


class OwnGroups:
    """The end of the commit order as far as it is this process's own; for one thread."""

    def __init__(self) -> None:
        self._begin = 0
        self._end = -1
        self._last: dict[str, int] = {}

    def add(self, before: int, last: int, resource_types: Iterable[str]) -> None:
        """A group is committed that stands behind `before` up to `last`."""
        if before != self._end:
            self._begin = before
            self._last.clear()
        self._end = last
        for resource_type in resource_types:
            self._last[resource_type] = last

    def has_none(self, after: int, newest: int, resource_types: Sequence[str]) -> bool:
        """Whether surely none of these types was put behind `after`, where all ends at `newest`."""
        if newest != self._end or after < self._begin:
            return False
        return all(self._last.get(each, 0) <= after for each in resource_types)
