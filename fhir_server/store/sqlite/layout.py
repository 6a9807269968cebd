"""The tables as the code sees them: columns, bulk inserts, and which timelines there are."""

# ruff: noqa: S608 - put together from constants; every value is bound

from collections.abc import Sequence
from functools import cache
from sqlite3 import Connection
from typing import Any, NamedTuple

# `version.superseded` of what is current: more than any sequence, in six bytes.
CURRENT = 2**47 - 1

CREATE, UPDATE, DELETE, UPDATE_CREATE = range(4)

# In microseconds. A resource's only range, if not longer, is NARROW.
DAY = 86_400_000_000
NARROW, WIDE, UNDATED = range(3)
FIRST, LAST = 1, 2
ANY_CODE = 0
NO_DISPLAY = 0

COLUMNS = {
    "resource": ("key", "type", "id"),
    "version": (
        "seq", "resource", "type", "version_id", "updated", "superseded", "interaction",
    ),
    "body": ("seq", "text"),
    "token_entry": ("parameter", "code", "seq", "element", "display"),
    "identifier_entry": ("parameter", "value", "system", "seq", "element", "folded"),
    "reference_entry": ("parameter", "target", "seq", "element", "version"),
    "uri_entry": ("parameter", "uri", "seq", "element", "version"),
    "date_entry": ("seq", "parameter", "element", "start", '"end"', "wide", "place"),
    "string_entry": ("seq", "parameter", "element", "folded", "exact"),
    "number_entry": ("seq", "parameter", "element", "low", "high"),
    "quantity_entry": (
        "seq", "parameter", "element", "unit", "low", "high", "canonical_low", "canonical_high",
    ),
    "text_entry": ("parameter", "text", "seq"),
    "timeline_entry": (
        "parameter", "subject", "code", "wide", "start", "seq", '"end"', "place",
    ),
    "word": ("word", "text"),
    "delivery_event": ("delivery", "at", "state", "detail"),
}  # fmt: skip

ENTRY_TABLES = tuple(name for name in COLUMNS if name.endswith("_entry"))


class Timeline(NamedTuple):
    """An index of its own: what a `reference` names (and has a code), by `date`.

    The three are codes of parameters that own entries. Where there are codes, rows with
    `ANY_CODE` serve searches that do not name one.
    """

    resource_type: str
    reference: str
    date: str
    code_parameter: str | None = None
    target: str | None = None

    @property
    def code(self) -> str:
        """Its name among the parameters; no parameter has a "+" in its code."""
        return "+".join(filter(None, (self.reference, self.code_parameter, self.date)))


TIMELINES = (
    Timeline("Observation", "subject", "date", code_parameter="code", target="Patient"),
    Timeline("Observation", "device", "date"),
)

# One statement inserts many rows in one step, with the interpreter's lock released all
# the while; row by row, every row waits for a busy event loop to give the lock back.
_CHUNKS = (512, 256, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)


def insert_rows(connection: Connection, table: str, values: Sequence[Any]) -> None:
    """Insert rows given as one flat sequence of their values."""
    width = len(COLUMNS[table])
    position, count = 0, len(values)
    for size in _CHUNKS:
        step = size * width
        while count - position >= step:
            connection.execute(_insert(table, size), values[position : position + step])
            position += step


@cache
def _insert(table: str, rows: int) -> str:
    columns = COLUMNS[table]
    row = f"({','.join('?' * len(columns))})"
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {','.join([row] * rows)}"


def values_rows(rows: int, width: int) -> str:
    """`VALUES (?,?),(?,?)…`, to ask for many things in one step."""
    row = f"({','.join('?' * width)})"
    return "VALUES " + ",".join([row] * rows)


def chunks(values: Sequence[Any]) -> list[Sequence[Any]]:
    """`values` cut into the few lengths for which statements stay prepared."""
    found: list[Sequence[Any]] = []
    position = 0
    for size in _CHUNKS:
        while len(values) - position >= size:
            found.append(values[position : position + size])
            position += size
    return found
