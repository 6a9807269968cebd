"""Records that share a commit share a link of the chain, and are found like any others."""

import asyncio
from datetime import timedelta

import pytest

from fhir_server.core.security import audit_sheet
from fhir_server.core.security.audit_chain import GENESIS, check_chain
from fhir_server.core.security.audit_record import Asker, AuditRecord, Touched
from fhir_server.operations.audit_search import AuditSearch
from fhir_server.operations.verify_trail import prune, verify
from fhir_server.store.sqlite import trail_rows
from fhir_server.store.trail import TrailQuery

MOST_WAITING = 7


@pytest.fixture(autouse=True)
def soon_listed(monkeypatch):
    """So that a few records are enough for what many make happen."""
    monkeypatch.setattr(trail_rows, "_MOST_WAITING", MOST_WAITING)


def entry(request, *patients, user=""):
    return audit_sheet.entry_of(
        AuditRecord(
            "read",
            "R",
            asker=Asker("user", user=user),
            address="10.0.0.1",
            request=request,
            touched=tuple(Touched(patient, ("Observation/o",)) for patient in patients),
        )
    )


def append(driver, *entries):
    driver.commit(lambda tx: tx.record(entries))


def sheets(driver, **query):
    return driver.run(driver.store.trail.search(TrailQuery(**query)))


def requests_of(driver, **query):
    """What the sheets hold, in the order of the sheets."""
    return [[r.request for r in audit_sheet.parse(s.text)] for s in sheets(driver, **query)]


def filled(driver, commits):
    """Commits of two records, of one patient in turns and of all."""
    for number in range(commits):
        append(
            driver,
            entry(f"own-{number}", f"Patient/{number % 3}"),
            entry(f"all-{number}", "Patient/all"),
        )
        driver.clock.advance(60)


def test_records_of_one_commit_are_one_link_of_the_chain(driver):
    append(driver, entry("a", "Patient/1"), entry("b"))
    append(driver, entry("c"))
    assert requests_of(driver, is_oldest_first=True) == [["a", "b"], ["c"]]
    found = sheets(driver, is_oldest_first=True)
    assert list(check_chain(found, GENESIS, driver.store.trail.keys.of(""))) == []


@pytest.mark.parametrize("is_oldest_first", [False, True])
@pytest.mark.parametrize("commits", [1, 3, 4, 9])
def test_a_list_is_whole_and_in_order_whenever_it_is_asked_for(driver, commits, is_oldest_first):
    filled(driver, commits)
    for patient, numbers in (
        ("Patient/all", range(1, commits + 1)),
        ("Patient/0", range(1, commits + 1, 3)),
    ):
        expected = list(numbers) if is_oldest_first else list(numbers)[::-1]
        found, beyond = [], None
        while page := sheets(
            driver, patient=patient, beyond=beyond, is_oldest_first=is_oldest_first, limit=2
        ):
            found += [sheet.sequence for sheet in page]
            beyond = found[-1]
        assert found == expected


def test_a_list_is_bounded_by_time_wherever_it_stands(driver):
    filled(driver, 9)
    everything = sheets(driver, is_oldest_first=True)
    for sheet in everything:
        found = sheets(driver, patient="Patient/all", start=sheet.at, end=sheet.at)
        assert [each.sequence for each in found] == [sheet.sequence]


def test_a_patient_who_asks_finds_what_they_asked(driver):
    append(driver, entry("by", "Patient/2", user="Patient/1"), entry("other"))
    for _ in range(2):
        assert requests_of(driver, patient="Patient/1") == [["by", "other"]]
        append(driver, *(entry("more") for _ in range(MOST_WAITING)))


def test_two_servers_list_what_either_has_written(driver):
    other = driver.open_another()

    async def many():
        await asyncio.gather(
            *(
                store.commit(lambda tx, n=n: tx.record([entry(str(n), f"Patient/{n}")]))
                for n in range(20)
                for store in (driver.store, other)
            )
        )

    driver.run(many())
    for number in range(20):
        found = sheets(driver, patient=f"Patient/{number}")
        asked = [r.request for s in found for r in audit_sheet.parse(s.text)]
        assert asked.count(str(number)) == 2
    assert driver.run(verify(driver.store.trail)).faults == ()


@pytest.mark.parametrize("kept", [1, 3, 6])
def test_sheets_are_pruned_whether_they_are_listed_or_not(driver, kept):
    filled(driver, 9)
    before = driver.clock() - timedelta(seconds=60 * kept + 30)
    assert driver.run(prune(driver.store.trail, before, Asker("operator"))) == 9 - kept
    filled(driver, 3)
    assert driver.run(verify(driver.store.trail)).faults == ()
    found = [sheet.sequence for sheet in sheets(driver, patient="Patient/all")]
    assert found == [13, 12, 11, *range(9, 9 - kept, -1)]


def test_events_of_a_sheet_are_found_in_order_and_page_by_page(driver):
    searcher = AuditSearch(
        driver.store, driver.parameters, lambda: driver.store.definitions.indexer
    )
    filled(driver, 3)
    append(driver, *(entry(f"many-{n}", "Patient/all", f"Patient/{n % 3}") for n in range(5)))
    every = [
        f"audit-{s}" + (f".{n}" if n else "")
        for s, events in ((1, 2), (2, 2), (3, 2), (4, 10))
        for n in range(events)
    ]
    own = ["audit-1", *(f"audit-4.{n}" for n in (1, 7))]
    for sort, turn in (("date", 1), ("-date", -1)):
        for asked, expected in (("", every), ("&patient=Patient/0", own)):
            query = driver.query(f"AuditEvent?_sort={sort}{asked}")
            found, after = [], None
            while True:
                page = driver.run(searcher.search(query._replace(count=3, after=after)))
                found += [version.key.resource_id for version in page.versions]
                after = page.next
                if after is None:
                    break
            assert found == expected[::turn]


def without_the_first(text):
    (sheet,) = audit_sheet.sheets(audit_sheet.entry_of(r) for r in audit_sheet.parse(text)[1:])
    return sheet.text


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b"own-1", b"own-7"),
        lambda text: text.replace(b"Patient/1", b"Patient/2"),
        lambda text: text.replace(b"10.0.0.1", b"10.0.0.2"),
        without_the_first,
    ],
)
def test_a_change_within_a_sheet_is_told(driver, change):
    filled(driver, 3)
    everything = sheets(driver, is_oldest_first=True)
    changed = everything[1]._replace(text=change(everything[1].text))
    assert changed != everything[1]
    found = check_chain(
        [everything[0], changed, everything[2]], GENESIS, driver.store.trail.keys.of("")
    )
    assert list(found) == ["record 2: not what was written"]
