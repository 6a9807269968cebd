"""Checking a store in parts: what one part found, which may be another process's."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

Report = Callable[[int], None]
"""Told how many versions more were looked at, on whichever thread."""


class Checked(NamedTuple):
    """What is wrong with the bodies and index entries of versions up to the sequence `last`.

    `entries` counts the index entries that the bodies give, where a store compares that as
    a whole; it says so of one `moment`, what the store's entries were made by then.
    """

    faults: tuple[str, ...]
    last: int
    entries: Mapping[str, int] = {}
    moment: tuple[int, ...] = ()


class Findings(Protocol):
    """What a check has looked at, by kind, and what is wrong; no resource's content."""

    @property
    def counts(self) -> dict[str, int]: ...

    @property
    def faults(self) -> tuple[str, ...]: ...


class Checkable(Protocol):
    """A store that can be checked while it is used. Both methods block, for long."""

    def check_bodies(self, first: int, last: int, report: Report = ...) -> Checked:
        """Whether the versions from sequence `first` to `last` have the entries they give."""
        ...

    def check(self, report: Report = ..., bodies: Sequence[Checked] | None = None) -> Findings:
        """Whether versions, index entries and outbox agree.

        `bodies` are what `check_bodies` found for all that was stored at some moment, each
        version once; without them they are looked at as well.
        """
        ...
