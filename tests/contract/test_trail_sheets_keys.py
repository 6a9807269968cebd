"""The key of the trail changes between sheets: all of them stay readable, listed and verified."""

import asyncio
from datetime import timedelta

import pytest

from fhir_server.core.security import audit_record, audit_sheet
from fhir_server.core.security.audit_chain import ChainKeys, ChainLink, check_chain
from fhir_server.core.security.audit_record import Asker, AuditRecord, Touched
from fhir_server.errors import StoreUnavailable
from fhir_server.operations.audit_search import AuditSearch
from fhir_server.operations.verify_trail import check_key, prune, rotate, verify
from fhir_server.store.sqlite import trail_rows
from fhir_server.store.trail import TrailEntry, TrailQuery

NONE, OLD, NEW = {"": b""}, {"2026": b"old"}, {"2027": b"new"}
ALL = ChainKeys(NONE | OLD | NEW)
PATIENT = "Patient/1"
OPERATOR = Asker("operator")


@pytest.fixture(autouse=True)
def soon_listed(monkeypatch):
    """So that a list is of sheets that have their rows and of sheets that wait, of each key."""
    monkeypatch.setattr(trail_rows, "_MOST_WAITING", 5)


def record(request, *patients):
    touched = tuple(Touched(patient) for patient in patients)
    return AuditRecord("read", "R", asker=OPERATOR, request=request, touched=touched)


def sheet(driver, store, *requests):
    entries = [audit_sheet.entry_of(record(each, PATIENT)) for each in requests]
    driver.run(store.commit(lambda tx: tx.record(entries)))
    driver.clock.advance(60)


def alone(driver, store, request):
    """As records were written before there were sheets."""
    entry = TrailEntry(audit_record.format(record(request, PATIENT)), (PATIENT,))
    driver.run(store.commit(lambda tx: tx.record([entry])))
    driver.clock.advance(60)


@pytest.fixture
def turned(driver):
    """Sheets and a record alone of three keys: 1 to 3, 4 to 7, 8 to 10."""
    store = driver.open_another(ALL)
    sheet(driver, store, "a", "b")
    alone(driver, store, "c")
    driver.run(rotate(store.trail, "2026", OPERATOR))
    sheet(driver, store, "d", "e", "f")
    sheet(driver, store, "g")
    driver.run(rotate(store.trail, "2027", OPERATOR))
    sheet(driver, store, "h", "i")
    sheet(driver, store, "GET /fhir/AuditEvent?subtype=audit-rotate", "j")
    return store


def chain(driver, store):
    return driver.run(store.trail.search(TrailQuery(is_oldest_first=True)))


def faults(driver, keys, expected=None):
    return driver.run(verify(driver.open_another(ChainKeys(keys)).trail, expected)).faults


def test_each_sheet_is_one_link_under_the_key_of_its_time(driver, turned):
    links = chain(driver, turned)
    assert [link.sequence for link in links] == list(range(1, 11))
    # A change of keys is the last link of one key and the first of the next.
    made_with = [""] * 3 + ["2026"] * 4 + ["2027"] * 3
    for before, link, key in zip(links[:-1], links[1:], made_with[1:], strict=True):
        after = ChainLink(before.sequence, before.digest)
        assert [name for name, each in ALL if not list(check_chain([link], after, each))] == [key]
    assert driver.run(verify(turned.trail))[::2] == (10, ())
    driver.run(check_key(turned.trail))


def test_a_list_goes_on_over_changes_of_the_key(driver, turned):
    parameters = driver.parameters
    searcher = AuditSearch(turned, parameters, lambda: turned.definitions.indexer)
    expected = ["audit-1", "audit-1.1", "audit-2", "audit-5", "audit-5.1", "audit-5.2", "audit-6"]
    expected += ["audit-9", "audit-9.1", "audit-10", "audit-10.1"]
    for sort, order in (("date", expected), ("-date", expected[::-1])):
        query = driver.query(f"AuditEvent?patient={PATIENT}&_sort={sort}&_count=3")
        found, after = [], None
        for _ in range(4):
            page = driver.run(searcher.search(query._replace(after=after)))
            found += [version.key.resource_id for version in page.versions]
            after = page.next
        assert (found, after) == (order, None)


def test_links_kept_elsewhere_fit_whatever_key_they_are_of(driver, turned):
    for link in chain(driver, turned):
        assert faults(driver, NONE | OLD | NEW, ChainLink(link.sequence, link.digest)) == ()


def test_sheets_of_a_key_that_was_taken_away_are_named(driver, turned):
    told = "made with the key 2026 of FHIR_SERVER_AUDIT_KEYS, which is not given"
    assert faults(driver, NONE | NEW) == (f"records 4 to 7: {told}",)


def test_one_look_that_is_changed_shows_under_any_key(driver, turned):
    links = chain(driver, turned)
    for place, key in ((4, b"old"), (8, b"new")):
        after = ChainLink(links[place - 1].sequence, links[place - 1].digest)
        text = links[place].text.replace(b'"i"' if place == 8 else b'"e"', b'"x"')
        assert text != links[place].text
        changed = links[place]._replace(text=text)
        assert list(check_chain([changed], after, key)) == [
            f"record {place + 1}: not what was written"
        ]


@pytest.mark.parametrize(
    ("minutes", "gone", "needed"), [(5, 1, NONE | OLD | NEW), (3, 5, OLD | NEW), (1, 9, NEW)]
)
def test_a_pruned_trail_needs_the_keys_of_what_is_left(driver, turned, minutes, gone, needed):
    before = driver.clock() - timedelta(minutes=minutes, seconds=30)
    assert driver.run(prune(turned.trail, before, OPERATOR)) == gone
    sheet(driver, turned, "k", "l")
    assert [link.sequence for link in chain(driver, turned)] == list(range(gone + 1, 13))
    assert faults(driver, needed) == ()
    assert needed == NEW or faults(driver, NEW) != ()


def test_processes_at_work_turn_at_one_sheet(driver):
    both = [driver.open_another(ALL) for _ in range(2)]
    without = driver.open_another(ChainKeys(NONE | OLD))

    async def write(store, name):
        entries = [audit_sheet.entry_of(record(f"{name}-{n}", PATIENT)) for n in range(2)]
        await store.commit(lambda tx: tx.record(entries))

    async def many():
        writes = [write(store, f"{n}-{p}") for n in range(12) for p, store in enumerate(both)]
        turn = rotate(both[0].trail, "2027", OPERATOR)
        await asyncio.gather(*writes[:12], turn, *writes[12:])

    driver.run(many())
    with pytest.raises(StoreUnavailable, match="2027"):
        driver.run(write(without, "late"))
    found = driver.run(verify(both[1].trail))
    assert found.faults == ()
    links = chain(driver, both[1])
    asked = [r.request for link in links for r in audit_sheet.parse(link.text)]
    assert sorted(each for each in asked if not each.startswith("audit ")) == sorted(
        f"{n}-{p}-{k}" for n in range(12) for p in range(2) for k in range(2)
    )
    assert asked.count("audit rotate - 2027") == 2
