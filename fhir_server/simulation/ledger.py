"""The ledger of a simulation: what was sent, what must become of it, what the server said.

One JSON object a line; the first says which ward it was.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TextIO

from fhir_server.core.mapping.reading import Verdict
from fhir_server.simulation.expectation import Expected, Sending

Said = tuple[str, str]


class Entry(NamedTuple):
    """One payload. `said` are verdict and reason of each reading; None: nobody was told."""

    mapping: str
    fault: str
    digest: str
    expected: tuple[Expected, ...]
    said: tuple[Said, ...] | None


class LedgerError(Exception):
    """The file is no ledger; the message is for the person who named it."""


class Ledger:
    """Written as the sending goes on: an interrupted run leaves what it had sent."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self._file: TextIO = path.open("w", encoding="utf-8")
        self._write(dict(header))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, sending: Sending, said: tuple[Said, ...] | None) -> None:
        self._write(
            {
                "at": sending.at.isoformat(),
                "mapping": sending.mapping,
                "serial": sending.serial,
                "fault": sending.fault,
                "digest": hashlib.sha256(sending.body).hexdigest()[:32],
                "expected": [_expected(each) for each in sending.expected],
                "said": said,
            }
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")


def read_header(path: Path) -> dict[str, Any]:
    """Raises `LedgerError`: there is none."""
    with path.open(encoding="utf-8") as file:
        header = _parse(file.readline(), 1)
    if "seed" not in header:
        raise LedgerError("the first line does not say which ward it was")
    return header


def read_entries(path: Path) -> Iterator[Entry]:
    """Raises `LedgerError`: a line is broken."""
    with path.open(encoding="utf-8") as file:
        next(file, None)
        for number, text in enumerate(file, start=2):
            line = _parse(text, number)
            try:
                yield Entry(
                    line["mapping"],
                    line["fault"],
                    line["digest"],
                    tuple(_parse_expected(each) for each in line["expected"]),
                    None if line["said"] is None else tuple((v, r) for v, r in line["said"]),
                )
            except (KeyError, TypeError, ValueError) as error:
                raise LedgerError(f"line {number}: {type(error).__name__}") from None


def _parse(text: str, number: int) -> dict[str, Any]:
    try:
        line: dict[str, Any] = json.loads(text)
    except ValueError:
        raise LedgerError(f"line {number} is no JSON") from None
    return line


def _expected(expected: Expected) -> dict[str, str]:
    values = expected._replace(verdict=expected.verdict)._asdict()
    if expected.instant is not None:
        values["instant"] = expected.instant.isoformat()
    return {name: value for name, value in values.items() if value}


def _parse_expected(line: dict[str, str]) -> Expected:
    instant = line.get("instant")
    return Expected(
        Verdict(line["verdict"]),
        line.get("reason", ""),
        line.get("patient", ""),
        line.get("code", ""),
        None if instant is None else datetime.fromisoformat(instant),
        line.get("alert", ""),
    )
