"""Searching the trail finds what the oracle finds in its events, whatever bounds are drawn."""

import itertools
import random
from datetime import UTC, datetime

import pytest

from fhir_server.core.search.match import Indexed, search
from fhir_server.core.search.query import AnyOf, Restriction
from fhir_server.core.security import audit_event, audit_record
from fhir_server.core.security.audit_record import Asker, AuditRecord, Touched
from fhir_server.errors import InvalidSearch
from fhir_server.operations.audit_search import AuditSearch
from fhir_server.store.trail import TrailEntry, TrailQuery

PATIENTS = ("Patient/1", "Patient/2", "Patient/3")

CLAUSES = [
    "patient=Patient/1",
    "patient=2",
    "patient=1,3",
    "action:not=R",
    "entity=Patient/1",
    "entity=Observation/o",
    "agent=Patient/1",
    "action=R",
    "outcome=4",
    "subtype=read",
    "date=ge2024-05-01T12:02:00Z",
    "date=lt2024-05-01T12:03:00Z",
    "date=2024-05-01T12:01:00Z,2024-05-01T12:03:00Z",
    "date=ne2024-05-01T12:01:00Z",
    "_lastUpdated=sa2024-05-01T12:01:00Z",
    "_id=audit-1,audit-2.1,audit-4",
    "_id:not=audit-1",
]


def made_records(count):
    rng = random.Random(11)
    return [
        AuditRecord(
            rng.choice(["read", "search-type", "create", "$everything"]),
            rng.choice("CRUDE"),
            rng.choice(["0", "4"]),
            asker=Asker(user=rng.choice(["", "Patient/1", "Practitioner/1"])),
            touched=tuple(
                Touched(patient, ("Observation/o",) * rng.randrange(2))
                for patient in rng.sample(("", *PATIENTS), rng.randrange(4))
            ),
        )
        for _ in range(count)
    ]


@pytest.fixture
def searcher(driver):
    return AuditSearch(driver.store, driver.parameters, lambda: driver.store.definitions.indexer)


def fill(driver, made):
    for record in made:
        entry = TrailEntry(audit_record.format(record), audit_record.patients(record))
        driver.commit(lambda tx, e=entry: tx.record([e]))
        driver.clock.advance(60)


def at(sheet):
    return datetime.fromtimestamp(sheet.at / 1000, UTC)


def everything(driver):
    found = driver.run(driver.store.trail.search(TrailQuery(is_oldest_first=True, limit=1000)))
    index = driver.store.definitions.indexer
    return [
        Indexed(index(version.resource()), version)
        for sheet in found
        for _, version in audit_event.events(sheet.sequence, at(sheet), sheet.text)
    ]


def pages(driver, searcher, query):
    found, after, as_of = [], None, None
    for _ in range(100):
        page = driver.run(searcher.search(query._replace(after=after, as_of=as_of)))
        found += [version.key.resource_id for version in page.versions]
        after, as_of = page.next, page.as_of
        if after is None:
            return found
    raise AssertionError("there is no end of pages")


def test_the_trail_is_searched_as_the_oracle_says(driver, searcher):
    fill(driver, made_records(8))
    events = everything(driver)
    pairs = random.Random(5).sample(list(itertools.combinations(CLAUSES, 2)), 25)
    for asked in [*((each,) for each in CLAUSES), *pairs]:
        query = driver.query("AuditEvent?" + "&".join(asked))
        expected = {v.key.resource_id for v in search(query, lambda _: events)}
        found = pages(driver, searcher, query._replace(count=3))
        assert len(found) == len(set(found)), asked
        assert set(found) == expected, asked


def test_stored_events_and_the_trail_come_in_one_order(driver, searcher):
    def stored(number):
        driver.write(
            {
                "resourceType": "AuditEvent",
                "id": f"delivery-{number}",
                "type": {"code": "110106"},
                "recorded": "2024-05-01T12:00:00Z",
                "agent": [{"requestor": True}],
                "source": {"observer": {"display": "x"}},
            }
        )
        driver.clock.advance(60)

    fill(driver, [AuditRecord("read", "R")])
    stored(1)
    fill(driver, [AuditRecord("read", "R")])
    stored(2)
    expected = ["audit-1", "delivery-1", "audit-2", "delivery-2"]
    for sort, order in (("date", expected), ("-date", expected[::-1])):
        query = driver.query(f"AuditEvent?_sort={sort}&_count=1")
        assert pages(driver, searcher, query) == order
    total = driver.run(searcher.search(driver.query("AuditEvent?_total=accurate"))).total
    assert total == 4


def test_events_are_found_by_what_they_refer_to(driver, searcher):
    for number, family in ((1, "Ivanova"), (2, "Ivanova"), (3, "Petrova")):
        driver.write(
            {"resourceType": "Patient", "id": str(number), "name": [{"family": family}]},
            {
                "resourceType": "Provenance",
                "id": f"p{number}",
                "target": [{"reference": f"Patient/{number}"}],
                "recorded": "2024-05-01T12:00:00Z",
                "agent": [{"who": {"reference": f"Patient/{number}"}}],
                "entity": [{"role": "source", "what": {"reference": f"AuditEvent/audit-{number}"}}],
            },
        )
    fill(driver, made_records(8))
    events, index = everything(driver), driver.store.definitions.indexer

    def resolve(resource_type):
        if resource_type == "AuditEvent":
            return events
        found = driver.search(f"{resource_type}?_count=100").versions
        return [Indexed(index(version.resource()), version) for version in found]

    for asked in (
        "patient.name=Ivanova",
        "patient.name=Nobody",
        "entity:Patient.name=Petrova&action=R",
        "agent:Patient.name=Ivanova",
        "_has:Provenance:entity:agent=Patient/1",
        "_has:Provenance:entity:agent=Patient/9",
    ):
        query = driver.query(f"AuditEvent?{asked}")
        expected = {version.key.resource_id for version in search(query, resolve)}
        assert set(pages(driver, searcher, query._replace(count=3))) == expected, asked
        hidden = Restriction((("Patient", (AnyOf(()),)), ("Provenance", (AnyOf(()),))))
        assert pages(driver, searcher, query._replace(restriction=hidden)) == [], asked


def test_an_order_of_other_things_than_time_is_refused(driver, searcher):
    with pytest.raises(InvalidSearch):
        driver.run(searcher.search(driver.query("AuditEvent?_sort=agent")))
