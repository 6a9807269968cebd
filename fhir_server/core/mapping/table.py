"""A ward's table as CSV: each line a record, each column a field named by its first line."""

import csv
import re
from typing import Any

_LONGEST_FIELD = 1_000
_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+\Z")


class InvalidPayloadError(ValueError):
    """A payload that a decoder cannot read; the message holds no part of it."""


def decode_table(payload: Any) -> Any:
    """Add `rows` from the text `csv`; a payload that has its rows already keeps them.

    The delimiter is what the head uses: semicolon, tabulator or comma. In a table that is
    not delimited by commas a comma in a number is a decimal one. An empty cell is null.

    Raises:
        InvalidPayloadError: the text is no table.
    """
    text = payload.get("csv")
    if text is None:
        return payload
    lines = text.removeprefix("\ufeff").splitlines()
    head = next((line for line in lines if line.strip()), "")
    delimiter = next((mark for mark in ";\t" if mark in head), ",")
    try:
        rows = [r for r in csv.reader(lines, delimiter=delimiter, strict=True) if r]
    except csv.Error:
        raise InvalidPayloadError("the table is no CSV") from None
    if not rows:
        raise InvalidPayloadError("the table has no head")
    names = [name.strip().lower() for name in rows[0]]
    if len(set(names)) != len(names) or "" in names:
        raise InvalidPayloadError("a column of the table has no name, or one that stands twice")
    return {**payload, "rows": [_row(names, row, delimiter) for row in rows[1:] if any(row)]}


def _row(names: list[str], cells: list[str], delimiter: str) -> dict[str, str | None]:
    """A line by the head's names.

    A line with more or fewer cells than the head says nothing of which is which, so all of
    it is left out and its time stamp is missed: the record is quarantined, not the table.
    """
    if len(cells) != len(names) or any(len(cell) > _LONGEST_FIELD for cell in cells):
        return {}
    return {name: _cell(cell.strip(), delimiter) for name, cell in zip(names, cells, strict=True)}


def _cell(text: str, delimiter: str) -> str | None:
    if delimiter != "," and _DECIMAL_COMMA.match(text):
        return text.replace(",", ".")
    return text or None
