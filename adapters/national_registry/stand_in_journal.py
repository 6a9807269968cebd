"""What the stand-in registry keeps: resources, their identifiers, and the requests it saw."""

import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource

_SCHEMA = """
CREATE TABLE IF NOT EXISTS resource(
    id INTEGER PRIMARY KEY, type TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS identifier(
    type TEXT NOT NULL, system TEXT NOT NULL, value TEXT NOT NULL, resource INTEGER NOT NULL,
    PRIMARY KEY (type, system, value, resource)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS request(
    id INTEGER PRIMARY KEY, at TEXT NOT NULL, idempotency_key TEXT NOT NULL,
    entries INTEGER NOT NULL, fault TEXT NOT NULL, outcome TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answer(
    id INTEGER PRIMARY KEY, due REAL NOT NULL, body BLOB NOT NULL);
"""


class TransactionError(Exception):
    """A transaction that the registry does not take; nothing of it was stored."""

    def __init__(self, status: int, code: str, expression: str = "Bundle") -> None:
        super().__init__(code)
        self.status = status
        self.outcome = operation_outcome(code, expression)


class Stored(NamedTuple):
    """One entry's result."""

    status: str
    location: str


class Journal:
    """One SQLite file; every transaction is whole and survives a killed process."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def transact(self, bundle: Resource) -> list[Stored]:
        """Process a transaction Bundle, all or nothing.

        Raises:
            TransactionError: an entry is not as it must be.
        """
        self._db.execute("BEGIN IMMEDIATE")
        try:
            results = self._process(bundle)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return results

    def note_request(self, idempotency_key: str, entries: int, fault: str, outcome: str) -> None:
        self._db.execute(
            "INSERT INTO request(at, idempotency_key, entries, fault, outcome)"
            " VALUES (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'), ?, ?, ?, ?)",
            (idempotency_key, entries, fault, outcome),
        )

    def keep_answer(self, body: bytes, seconds: float) -> int:
        """The number of an answer that is given in `seconds`; an empty one is never there."""
        (number,) = self._db.execute(
            "INSERT INTO answer(due, body) VALUES (?, ?) RETURNING id",
            (time.time() + seconds, body),
        ).fetchone()
        return int(number)

    def answer(self, number: int) -> bytes | None:
        """None while it is not due."""
        row = self._db.execute(
            "SELECT body FROM answer WHERE id = ? AND due <= ?", (number, time.time())
        ).fetchone()
        return None if row is None else bytes(row[0])

    def find(self, resource_type: str, system: str, value: str) -> list[Resource]:
        rows = self._db.execute(
            "SELECT body FROM resource WHERE id IN (SELECT resource FROM identifier"
            " WHERE type = ? AND system = ? AND value = ?) ORDER BY id",
            (resource_type, system, value),
        )
        return [resource_json.parse_resource(body) for (body,) in rows]

    def all(self, resource_type: str, limit: int) -> list[Resource]:
        rows = self._db.execute(
            "SELECT body FROM resource WHERE type = ? ORDER BY id LIMIT ?", (resource_type, limit)
        )
        return [resource_json.parse_resource(body) for (body,) in rows]

    def read(self, resource_type: str, resource_id: str) -> Resource | None:
        row = self._db.execute(
            "SELECT body FROM resource WHERE type = ? AND id = ?", (resource_type, resource_id)
        ).fetchone()
        return None if row is None else resource_json.parse_resource(row[0])

    def counts(self) -> dict[str, Any]:
        """Resources by type, what is there more than once, and requests by their outcome."""
        return {
            "resources": dict(
                self._db.execute("SELECT type, COUNT(*) FROM resource GROUP BY type ORDER BY type")
            ),
            "duplicates": self._db.execute(
                "SELECT COUNT(*) FROM (SELECT 1 FROM identifier"
                " GROUP BY type, system, value HAVING COUNT(*) > 1)"
            ).fetchone()[0],
            "requests": dict(
                self._db.execute(
                    "SELECT outcome, COUNT(*) FROM request GROUP BY outcome ORDER BY outcome"
                )
            ),
        }

    def requests(self) -> list[dict[str, Any]]:
        names = ("at", "idempotencyKey", "entries", "fault", "outcome")
        rows = self._db.execute(
            "SELECT at, idempotency_key, entries, fault, outcome FROM request ORDER BY id"
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _process(self, bundle: Resource) -> list[Stored]:
        entries = bundle.get("entry") or []
        results: dict[int, Stored] = {}
        references: dict[str, str] = {}
        # First who everybody is, so that references can be followed: POST comes before PUT.
        for method in ("POST", "PUT"):
            for index, entry in enumerate(entries):
                if entry["request"]["method"] == method:
                    results[index] = self._identify(index, entry, references)
        if len(results) != len(entries):
            raise TransactionError(400, "not-supported", "Bundle.entry.request.method")
        for index, entry in enumerate(entries):
            self._write(index, entry, results[index], references)
        return [results[index] for index in range(len(entries))]

    def _identify(self, index: int, entry: Resource, references: dict[str, str]) -> Stored:
        request, resource_type = entry["request"], entry["resource"]["resourceType"]
        at = f"Bundle.entry[{index}]"
        criterion = (
            request.get("ifNoneExist", "")
            if request["method"] == "POST"
            else request["url"].partition("?")[2]
        )
        system, value = _token(criterion, f"{at}.request")
        found = self._db.execute(
            "SELECT resource FROM identifier WHERE type = ? AND system = ? AND value = ?",
            (resource_type, system, value),
        ).fetchall()
        if len(found) > 1:
            raise TransactionError(412, "multiple-matches", f"{at}.request")
        if found:
            identity, status = found[0][0], "200 OK"
        else:
            status = "201 Created"
            identity = self._db.execute(
                "INSERT INTO resource(type, version, body) VALUES (?, 0, '')", (resource_type,)
            ).lastrowid
            self._db.execute(
                "INSERT INTO identifier VALUES (?, ?, ?, ?)",
                (resource_type, system, value, identity),
            )
        location = f"{resource_type}/{identity}"
        references[entry.get("fullUrl", location)] = location
        return Stored(status, location)

    def _write(
        self, index: int, entry: Resource, stored: Stored, references: dict[str, str]
    ) -> None:
        if entry["request"]["method"] == "POST" and stored.status.startswith("200"):
            return
        resource = _followed(entry["resource"], references, f"Bundle.entry[{index}].resource")
        resource_type, _, identity = stored.location.partition("/")
        if resource_type == "Observation":
            subject = resource.get("subject", {}).get("reference", "").partition("/")
            if subject[0] != "Patient" or self.read("Patient", subject[2]) is None:
                raise TransactionError(422, "not-found", f"Bundle.entry[{index}].resource.subject")
        (version,) = self._db.execute(
            "UPDATE resource SET version = version + 1 WHERE id = ? RETURNING version", (identity,)
        ).fetchone()
        meta = {**resource.get("meta", {}), "versionId": str(version)}
        body = resource_json.format({**resource, "id": identity, "meta": meta})
        self._db.execute("UPDATE resource SET body = ? WHERE id = ?", (body, identity))
        for identifier in resource.get("identifier", []):
            self._db.execute(
                "INSERT OR IGNORE INTO identifier VALUES (?, ?, ?, ?)",
                (resource_type, identifier.get("system", ""), identifier["value"], identity),
            )


def parse_token(text: str) -> tuple[str, str]:
    """`system|value` of a search, with its escapes undone."""
    parts, escaped = [""], False
    for character in text:
        if escaped or character not in "\\|":
            parts[-1] += character
            escaped = False
        elif character == "\\":
            escaped = True
        else:
            parts.append("")
    return (parts[0], parts[1]) if len(parts) == 2 else ("", text)


def operation_outcome(code: str, expression: str) -> Resource:
    """With a text such as real registries write, which no sender may pass on."""
    issue = {
        "severity": "error",
        "code": code,
        "diagnostics": "Ivanova Maria, 1961-02-03: refused",
        "expression": [expression],
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _token(criterion: str, at: str) -> tuple[str, str]:
    parameters = parse_qs(criterion, keep_blank_values=True)
    if set(parameters) != {"identifier"} or len(parameters["identifier"]) != 1:
        raise TransactionError(412, "invalid", at)
    return parse_token(parameters["identifier"][0])


def _followed(resource: Resource, references: dict[str, str], at: str) -> Resource:
    def follow(value: Any) -> Any:
        if isinstance(value, dict):
            target = value.get("reference")
            if isinstance(target, str) and target.startswith("urn:uuid:"):
                if target not in references:
                    raise TransactionError(422, "not-found", at)
                return {**value, "reference": references[target]}
            return {name: follow(part) for name, part in value.items()}
        if isinstance(value, list):
            return [follow(part) for part in value]
        return value

    followed: Resource = follow(resource)
    return followed
