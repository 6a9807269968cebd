"""The file's schema: made, brought up to date, or refused."""

import sqlite3
from collections.abc import Iterator
from importlib.resources import files

from fhir_server.errors import Unsupported

# Bytes "FHIR": tells our files from any other program's.
APPLICATION_ID = 0x46484952

_STEPS = (
    "schema.sql", "kept_search.sql", "delivery_count.sql", "receipts.sql", "trail.sql",
    "superseded.sql", "trail_lists.sql",
)  # fmt: skip


def migrations() -> tuple[str, ...]:
    """The steps from an empty file to this release; step n makes version n.

    A step that has been released never changes.
    """
    folder = files(__package__)
    return tuple(folder.joinpath(name).read_text("utf-8") for name in _STEPS)


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the file to this release's schema, whoever else opens it at the same moment.

    Raises:
        Unsupported: a newer release wrote it, or it is not ours.
    """
    steps = migrations()
    if _version(connection) == len(steps) and _is_ours(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have done it while this one waited.
        found = _version(connection)
        if found > len(steps):
            raise Unsupported(
                f"the store has schema {found}, this release knows up to {len(steps)}: "
                "a newer release has used it"
            )
        if not _is_ours(connection):
            if found or connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone():
                raise Unsupported("the file is another program's database")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        for step in steps[found:]:
            for statement in _statements(step):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def _is_ours(connection: sqlite3.Connection) -> bool:
    found: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return found == APPLICATION_ID


def _statements(script: str) -> Iterator[str]:
    # `executescript` would commit first, so a step would not be all or nothing.
    statement = ""
    for part in script.split(";"):
        statement += part + ";"
        if part.strip() and sqlite3.complete_statement(statement):
            yield statement
            statement = ""
