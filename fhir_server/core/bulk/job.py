"""An export as it is kept: whose it is, what is asked, how far it is, which files it has.

What is kept is JSON; a member that is added gets a default, so jobs of the release before
are understood.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec

from fhir_server.core.bulk.request import ExportLevel, ExportRequest
from fhir_server.core.search.query import Cursor
from fhir_server.core.version import format_instant

JobState = Literal["waiting", "done", "failed", "ended"]
FileKind = Literal["output", "deleted", "error"]


class ExportFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole file: `size` is of its gzip, `length` of the lines in it, `count` how many.

    `mark` says within whose reach it was made (`Reach.mark`); "" where that changed meanwhile.
    """

    name: str
    kind: FileKind
    type: str
    count: int
    size: int
    length: int
    mark: str = ""


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where the next file begins.

    In `output`: the number of the type, of the patients asked for together, and behind which
    resource. In `deleted`: behind which `sequence` of the commit order.
    """

    phase: Literal["output", "deleted"] = "output"
    type: int = 0
    patients: int = 0
    values: tuple[int | str | None, ...] = ()
    sequence: int | None = None

    @property
    def cursor(self) -> Cursor | None:
        return None if self.sequence is None else Cursor(self.values, self.sequence)


class ExportJob(msgspec.Struct, frozen=True, omit_defaults=True):
    """`url` is what was asked, at the moment `at`; `owner` tells whose it is ("" is anyone's),
    and `principal` is who that is, in words of `subscriber`.

    `as_of` is the position in the commit order that all of it belongs to, and `moment` the
    time of the last change up to there. `place` None: nothing is left to be written. `holder`
    works on it until `until`; `worked` is when somebody last did. `notes` are what could not
    be exported, as an issue's code and words. `failure` is the same of the whole.
    """

    url: str
    base_url: str
    at: datetime
    level: ExportLevel
    request: ExportRequest
    types: tuple[str, ...]
    owner: str = ""
    principal: str | None = None
    group: tuple[str, int] | None = None
    state: JobState = "waiting"
    holder: str = ""
    until: datetime | None = None
    worked: datetime | None = None
    as_of: int | None = None
    moment: datetime | None = None
    place: Place | None = None
    files: tuple[ExportFile, ...] = ()
    exported: int = 0
    attempts: int = 0
    notes: tuple[tuple[str, str], ...] = ()
    failure: tuple[str, str] | None = None
    expires: datetime | None = None

    def __post_init__(self) -> None:
        if self.state == "done" and (self.moment is None or self.expires is None):
            raise ValueError("a job that is done has a moment and an end")

    @property
    def progress(self) -> str:
        """For people, and nothing in it is about a patient."""
        if self.place is None or self.as_of is None:
            return "waiting for its turn"
        if self.place.phase == "deleted":
            return f"{self.exported} resources, looking for what was deleted"
        return f"{self.exported} resources, type {self.place.type + 1} of {len(self.types)}"

    def file(self, name: str) -> ExportFile | None:
        return next((each for each in self.files if each.name == name), None)


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(ExportJob)


def format(job: ExportJob) -> str:  # noqa: A001 - `job.format`, beside `parse`
    """The text that is kept."""
    return _encoder.encode(job).decode()


def parse(text: str) -> ExportJob:
    """What `format` wrote.

    Raises:
        ValueError: it did not write this.
    """
    return _decoder.decode(text)


def manifest(job: ExportJob, url_of: str, *, is_token_needed: bool) -> dict[str, Any]:
    """What is told of a job that is done; files are below `url_of`.

    https://hl7.org/fhir/uv/bulkdata/export.html#response---complete-status
    """
    if job.moment is None:
        raise ValueError("it is not done")
    found: dict[str, list[dict[str, Any]]] = {"output": [], "deleted": [], "error": []}
    for each in job.files:
        entry = {"type": each.type, "url": f"{url_of}/{each.name}", "count": each.count}
        found[each.kind].append(entry)
    return {
        "transactionTime": format_instant(job.moment),
        "request": job.url,
        "requiresAccessToken": is_token_needed,
        **found,
    }
