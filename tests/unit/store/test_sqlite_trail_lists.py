"""Whose lists the sheets of the trail are on: written for many at once, old ones as they were."""

import sqlite3

import pytest

from fhir_server.core.security import audit_record, audit_sheet
from fhir_server.core.security.audit_chain import GENESIS, ChainKeys, ChainLink, chained
from fhir_server.core.security.audit_record import Asker, AuditRecord, Touched
from fhir_server.operations.verify_trail import rotate, verify
from fhir_server.store.sqlite import schema, trail_rows
from fhir_server.store.trail import TrailQuery

OLD = AuditRecord("read", "R", request="old", touched=(Touched("Patient/1"),))
NEW = AuditRecord("read", "R", request="new", touched=(Touched("Patient/1"), Touched("Patient/2")))


RELEASED = 5
"""Steps of the file when `trail.sql` was the last: others stand between it and the lists."""


def fill_as_before(path, patch, count, reached):
    """A file of a release before, which wrote each record alone and on its lists at once."""
    steps = schema.migrations()
    with patch.context() as context, sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        before = steps[:reached]
        context.setattr(schema, "migrations", lambda: before)
        schema.upgrade(connection)
        newest = GENESIS
        for _ in range(count):
            row = chained(newest, 1_000, audit_record.format(OLD), b"")
            newest = ChainLink(row.sequence, row.digest)
            connection.execute("INSERT INTO trail VALUES (?, ?, ?, ?)", row)
            connection.execute("INSERT INTO trail_patient VALUES ('Patient/1', ?)", row[:1])
        connection.execute(
            "UPDATE trail_end SET seq = ?, at = 1000, digest = ? WHERE name = 'newest'", newest
        )
    connection.close()


def requests_of(driver, patient):
    found = driver.run(driver.store.trail.search(TrailQuery(patient)))
    return [r.request for sheet in found for r in audit_sheet.parse(sheet.text)]


@pytest.mark.parametrize("reached", [RELEASED, schema._STEPS.index("trail_lists.sql")])
def test_a_trail_of_before_is_gone_on_with(path, open_driver, monkeypatch, reached):
    fill_as_before(path, monkeypatch, 3, reached)
    monkeypatch.setattr(trail_rows, "_MOST_WAITING", 4)
    driver = open_driver()
    for number in range(3):
        entries = [audit_sheet.entry_of(NEW)] * 2
        driver.commit(lambda tx, entries=entries: tx.record(entries))
        assert requests_of(driver, "Patient/1") == ["new"] * 2 * (number + 1) + ["old"] * 3
        assert requests_of(driver, "Patient/2") == ["new"] * 2 * (number + 1)
    found = driver.run(verify(driver.store.trail))
    assert (found.records, found.faults) == (6, ())
    turned = open_driver(trail_keys=ChainKeys({"": b"", "2027": b"new"}))
    turned.run(rotate(turned.store.trail, "2027", Asker("operator")))
    turned.commit(lambda tx: tx.record([audit_sheet.entry_of(NEW)]))
    assert requests_of(turned, "Patient/1") == ["new"] * 7 + ["old"] * 3
    found = turned.run(verify(turned.store.trail))
    assert (found.records, found.faults) == (9, ())


def test_lists_are_written_for_many_sheets_at_once(path, driver, monkeypatch):
    monkeypatch.setattr(trail_rows, "_MOST_WAITING", 4)
    listed = []
    for _ in range(5):
        driver.commit(lambda tx: tx.record([audit_sheet.entry_of(NEW)]))
        with sqlite3.connect(path) as connection:
            listed.append(connection.execute("SELECT count(*) FROM trail_patient").fetchone()[0])
        connection.close()
    assert listed == [0, 0, 0, 8, 8]
