"""ExportStore: where exports are kept while they are made and fetched: their jobs and files.

Apart from the resources: no search, history or backup finds them, and what is fetched and
forgotten does not stay between what is to be kept.
"""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class JobRecord(NamedTuple):
    """A job's text, as of a `revision` that each change makes another."""

    name: str
    revision: int
    text: str


class ExportStore(Protocol):
    """For any thread that may wait, of any process of the server.

    Every method raises `StoreUnavailable` where it is away.
    """

    def add(self, name: str, text: str) -> None:
        """Keep a new job, durable."""
        ...

    def find(self, name: str) -> JobRecord | None: ...

    def jobs(self) -> list[JobRecord]: ...

    def replace(self, record: JobRecord, text: str) -> JobRecord | None:
        """The job with another text, durable; None: it is not as in `record` any more."""
        ...

    def remove(self, name: str) -> None:
        """The job with all its files; nothing happens if there is none."""
        ...

    def append(self, name: str, file: str, number: int, portion: bytes) -> None:
        """Add the `number`th portion, counted from 0, of at most a few megabytes."""
        ...

    def finish(self, name: str, file: str) -> None:
        """Make what was appended durable."""
        ...

    def drop(self, name: str, file: str) -> None:
        """Take a file away."""
        ...

    def portions(self, name: str, file: str) -> Iterator[bytes]:
        """What was appended, in its order, cut anyhow.

        Raises:
            NotFound: there is no such file (any more).
        """
        ...

    def strays(self) -> list[str]:
        """Names under which there are files and no job."""
        ...

    def close(self) -> None: ...
