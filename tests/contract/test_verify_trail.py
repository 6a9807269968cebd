"""`audit verify` shows what was done to the trail behind the server's back; pruning is told."""

import sqlite3
from datetime import timedelta

import pytest

from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_chain import GENESIS, ChainLink
from fhir_server.core.security.audit_record import Asker, AuditRecord
from fhir_server.operations.verify_trail import check_key, prune, verify
from fhir_server.store.trail import TrailEntry


@pytest.fixture
def filled(driver):
    for number in range(6):
        record = AuditRecord("read", "R", request=str(number))
        driver.commit(lambda tx, r=record: tx.record([TrailEntry(audit_record.format(r))]))
        driver.clock.advance(60)
    return driver


def verified(driver, expected=None):
    return driver.run(verify(driver.store.trail, expected))


def pruned(driver, seconds):
    before = driver.clock() - timedelta(seconds=seconds)
    return driver.run(prune(driver.store.trail, before, Asker("operator")))


def head(driver):
    return driver.run(driver.store.trail.ends()).newest


class Intruder:
    """Writes the database past the server."""

    def __init__(self, driver):
        self._store = driver.store
        self._is_sqlite = hasattr(driver.store, "committer")

    def delete(self, first, last):
        if self._is_sqlite:
            self._sql("DELETE FROM trail WHERE seq BETWEEN ? AND ?", (first, last))
        else:
            self._trail.delete_many({"_id": {"$gte": first, "$lte": last}})

    def change(self, sequence, text):
        if self._is_sqlite:
            self._sql("UPDATE trail SET text = ? WHERE seq = ?", (text, sequence))
        else:
            self._trail.update_one({"_id": sequence}, {"$set": {"t": text}})

    def set_end(self, name, link):
        if self._is_sqlite:
            change = "UPDATE trail_end SET seq = ?, digest = ? WHERE name = ?"
            self._sql(change, (*link, name))
            return
        names = ("pruned", "pruned_digest") if name == "pruned" else ("sequence", "digest")
        state = self._store._connection.database["state"]
        state.update_one({"_id": "trail"}, {"$set": dict(zip(names, link, strict=True))})

    @property
    def _trail(self):
        return self._store._connection.database["trail"]

    def _sql(self, text, values):
        connection = sqlite3.connect(self._store.path)
        with connection:
            connection.execute(text, values)
        connection.close()


@pytest.fixture
def intruder(filled):
    return Intruder(filled)


def test_a_trail_that_nobody_touched_is_in_order(filled):
    found = verified(filled)
    assert found.faults == ()
    assert (found.records, found.newest) == (6, head(filled))


def test_an_empty_trail_is_in_order(driver):
    assert verified(driver) == (0, GENESIS, ())


def test_a_record_that_was_removed_is_told(filled, intruder):
    intruder.delete(3, 3)
    assert verified(filled).faults == ("record 3: missing",)


def test_a_record_that_was_changed_is_told(filled, intruder):
    intruder.change(3, b"{}")
    assert verified(filled).faults == ("record 3: not what was written",)


def test_the_newest_records_removed_are_told(filled, intruder):
    intruder.delete(5, 6)
    assert verified(filled).faults == ("the chain ends at record 4, it should at 6",)


def test_who_also_moves_the_end_is_told_by_a_link_kept_elsewhere(filled, intruder):
    kept = head(filled)
    fourth = filled.run(filled.store.trail.find(4))
    intruder.delete(5, 6)
    intruder.set_end("newest", ChainLink(4, fourth.digest))
    assert verified(filled).faults == ()
    assert len(verified(filled, kept).faults) == 1


def test_who_removes_the_oldest_as_if_pruned_is_told(filled, intruder):
    second = filled.run(filled.store.trail.find(2))
    intruder.delete(1, 2)
    intruder.set_end("pruned", ChainLink(2, second.digest))
    assert len(verified(filled).faults) == 1


def test_a_pruned_trail_is_in_order_and_tells_of_it(filled):
    assert pruned(filled, 150) == 4
    found = verified(filled)
    assert (found.records, found.faults) == (3, ())
    assert pruned(filled, 150) == 0
    filled.clock.advance(1_000)
    assert pruned(filled, 100) == 3
    assert verified(filled).faults == ()


def test_a_link_that_is_kept_fits_while_its_record_is_there(filled):
    assert verified(filled, head(filled)).faults == ()
    assert verified(filled, ChainLink(3, bytes(32))).faults != ()


def test_a_chain_is_not_gone_on_with_with_another_key(filled):
    filled.run(check_key(filled.store.trail))
    filled.store.trail.key = b"another"
    with pytest.raises(ValueError, match="AUDIT_KEY"):
        filled.run(check_key(filled.store.trail))
    assert len(verified(filled).faults) == 6


def test_an_empty_chain_takes_any_key(driver):
    driver.run(check_key(driver.store.trail))
