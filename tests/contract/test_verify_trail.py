"""`audit verify` shows what was done to the trail behind the server's back; pruning is told."""

import sqlite3
from datetime import timedelta

import pytest

from fhir_server.core.security import audit_record
from fhir_server.core.security.audit_chain import GENESIS, NO_KEYS, ChainKeys, ChainLink
from fhir_server.core.security.audit_record import Asker, AuditRecord
from fhir_server.errors import StoreUnavailable
from fhir_server.operations.verify_trail import check_key, prune, rotate, verify
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
    filled.store.trail.keys = ChainKeys({"": b"another"})
    with pytest.raises(ValueError, match="AUDIT_KEY"):
        filled.run(check_key(filled.store.trail))
    assert verified(filled).faults == ("records from 1: made with a key, which is not given",)


def test_an_empty_chain_takes_any_key(driver):
    driver.run(check_key(driver.store.trail))


OLD, NEW = {"": b"", "2026": b"old"}, {"2027": b"new"}


def recorded(driver, store):
    record = audit_record.format(AuditRecord("read", "R"))
    driver.run(store.commit(lambda tx: tx.record([TrailEntry(record)])))


def turned(driver):
    """A store with both keys, whose trail went on with one and then the other."""
    store = driver.open_another(ChainKeys(OLD | NEW))
    for key in ("2026", "2027"):
        driver.run(rotate(store.trail, key, Asker("operator")))
        recorded(driver, store)
    return store


def faults(driver, keys):
    return driver.run(verify(driver.open_another(ChainKeys(keys)).trail)).faults


def test_a_chain_is_verified_over_changes_of_its_key(filled):
    store = turned(filled)
    assert driver_sees(filled, store) == (12, ())
    filled.run(check_key(store.trail))
    assert filled.run(store.trail.ends()).key == "2027"


def driver_sees(driver, store):
    found = driver.run(verify(store.trail))
    return found.records, found.faults


def test_a_process_without_the_key_in_use_appends_nothing(filled):
    store = turned(filled)
    newest = filled.run(store.trail.ends()).newest
    for keys in (NO_KEYS, ChainKeys(OLD)):
        other = filled.open_another(keys)
        with pytest.raises(StoreUnavailable, match="2027"):
            recorded(filled, other)
        with pytest.raises(ValueError, match="2027"):
            filled.run(check_key(other.trail))
    assert filled.run(store.trail.ends()).newest == newest
    recorded(filled, store)


def test_a_key_that_was_taken_away_is_named(filled):
    turned(filled)
    unknown = "the key 2026 of FHIR_SERVER_AUDIT_KEYS, which is not given"
    assert faults(filled, {"": b"", **NEW}) == (f"records 8 to 10: made with {unknown}",)
    assert "2027" in faults(filled, OLD)[0]
    assert faults(filled, {**OLD, "2027": b"another"}) != ()


def test_a_record_of_an_old_key_is_missed_when_it_is_changed(filled, intruder):
    turned(filled)
    record = audit_record.format(AuditRecord("read", "R", request="another"))
    intruder.change(9, record)
    assert faults(filled, OLD | NEW) == ("record 9: not what was written",)


def test_a_change_of_keys_that_nobody_signed_is_none(filled, intruder):
    store = turned(filled)
    forged = AuditRecord("audit-rotate", "U", request="audit rotate 2027 2026")
    intruder.change(12, audit_record.format(forged))
    assert filled.run(verify(store.trail)).faults == ("record 12: not what was written",)


def test_what_was_pruned_takes_the_need_of_its_key_along(filled):
    store = turned(filled)
    filled.clock.advance(60)
    recorded(filled, store)
    before = filled.clock() - timedelta(seconds=30)
    assert filled.run(prune(store.trail, before, Asker("operator"))) == 12
    assert faults(filled, NEW) == ()


def test_only_a_key_that_is_given_is_turned_to(filled):
    store = turned(filled)
    for key, told in (("2027", "already"), ("2028", "not given")):
        with pytest.raises(ValueError, match=told):
            filled.run(rotate(store.trail, key, Asker("operator")))
