"""Reindexing beside the work, and a check that finds what is wrong."""

import asyncio
import sqlite3

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.entry import StringEntry
from fhir_server.errors import Gone
from fhir_server.store.sqlite import erase, reindex, store
from fhir_server.store.sqlite.committer import upkeep


def observation(resource_id, code="a", day=1):
    return {
        "resourceType": "Observation",
        "id": resource_id,
        "status": "final",
        "code": {"coding": [{"system": "urn:c", "code": code, "display": "Blood"}]},
        "subject": {"reference": "Patient/p1"},
        "identifier": [{"system": "urn:i", "value": resource_id}],
        "effectiveDateTime": f"2024-03-{day:02}",
        "valueQuantity": {"value": 1, "system": "http://unitsofmeasure.org", "code": "kg"},
        "note": [{"text": "n"}],
    }


SEARCHES = (
    "Observation?code=a",
    "Observation?code:text=blo",
    "Observation?patient=p1&_sort=-date",
    "Observation?identifier=urn:i|o3",
    "Observation?value-quantity=1000|http://unitsofmeasure.org|g",
    "Observation?date=ge2024-03-03",
)


@pytest.fixture
def filled(driver):
    driver.write(*(observation(f"o{n}", day=n + 1) for n in range(8)))
    driver.write(observation("o2", code="b", day=20))
    driver.delete(ResourceKey("Observation", "o5"))
    return driver


def rows(path):
    connection = sqlite3.connect(path)
    counts = {
        table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
        for table in store.reindex.RowBuilder(None, 1)._flat
    }
    connection.close()
    return counts


def test_a_reindex_finds_the_same_and_leaves_nothing_behind(filled, path):
    filled.run(filled.store.purge(filled.clock()))
    expected = [filled.ids(search) for search in SEARCHES]
    before = rows(path)
    filled.run(filled.store.reindex())
    assert [filled.ids(search) for search in SEARCHES] == expected
    assert filled.store.check().faults == ()
    assert sum(rows(path).values()) <= sum(before.values())


def test_a_reindex_finds_what_new_definitions_index(filled, open_driver, indexer):
    def index(resource):
        entries = indexer.index(resource)
        status = StringEntry("value-string", "added", "Added")
        return entries._replace(strings=(*entries.strings, status), tokens=entries.tokens[:1])

    changed = open_driver(index=index)
    assert changed.ids("Observation?value-string=added") == []
    assert changed.store.check().faults != ()
    changed.run(changed.store.reindex())
    assert len(changed.ids("Observation?value-string=added")) == 7
    assert changed.store.check().faults == ()


def test_others_write_while_a_reindex_runs(filled, monkeypatch):
    monkeypatch.setattr(store, "_BATCH", 2)
    as_of = filled.search("Observation").as_of

    async def both():
        async def write(n):
            resource = observation(f"o{n % 4}", code="c", day=n + 1)
            await filled.store.commit(lambda tx: filled.put(tx, resource))

        await asyncio.gather(filled.store.reindex(), *(write(n) for n in range(12)))

    filled.run(both())
    assert filled.ids("Observation?code=c") == ["o0", "o1", "o2", "o3"]
    assert filled.ids("Observation?code=a") == ["o4", "o6", "o7"]
    assert filled.store.check().faults == ()
    with pytest.raises(Gone):
        filled.search("Observation", as_of=as_of)


def test_an_interrupted_reindex_goes_on_where_it_was(filled, open_driver, path):
    work = filled.store.committer

    async def begin():
        await work.commit(upkeep(reindex.begin))
        await work.commit(upkeep(lambda group: reindex.step(group, 4)))

    filled.run(begin())
    expected = [filled.ids(search) for search in SEARCHES]
    filled.run(filled.store.close())
    resumed = open_driver()
    assert [resumed.ids(search) for search in SEARCHES] == expected
    positions = []
    resumed.run(resumed.store.reindex(positions.append))
    assert positions[0] == 10
    assert [resumed.ids(search) for search in SEARCHES] == expected
    assert resumed.store.check().faults == ()


def test_old_generations_go_in_small_steps(filled):
    filled.run(filled.store.reindex())
    filled.write(observation("o9"))
    steps = []

    async def clean():
        while await filled.store.committer.commit(
            upkeep(lambda group: erase.erase_generations(group.connection, group.generation, 3))
        ):
            steps.append(1)

    filled.run(clean())
    assert filled.store.check().faults == ()


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("DELETE FROM version WHERE seq = 4", "commit order lacks"),
        ("UPDATE version SET updated = 1 WHERE seq = 4", "older than the one before"),
        ("UPDATE version SET version_id = 7 WHERE seq = 9", "does not follow"),
        ("UPDATE version SET superseded = 8 WHERE seq = 3", "what superseded it"),
        ("UPDATE version SET interaction = 0 WHERE seq = 9", "is no create"),
        ("UPDATE version SET resource = 99 WHERE seq = 8", "not known"),
        ("DELETE FROM body WHERE seq = 8", "has no body"),
        ("INSERT INTO body VALUES (10, x'7b7d')", "no such version"),
        ("UPDATE body SET text = x'7b7d' WHERE seq = 8", "cannot be read"),
        ("UPDATE body SET text = cast(replace(text, 'o7', 'oX') AS blob)", "another id"),
        ("UPDATE body SET text = cast(replace(text, '\"1\"', '\"2\"') AS blob)", "another id"),
        ("DELETE FROM token_entry WHERE seq = 8", "token_entry lacks"),
        ("UPDATE date_entry SET start = start - 1 WHERE seq = 8", "date_entry lacks"),
        ("UPDATE identifier_entry SET value = 'x' WHERE seq = 8", "identifier_entry lacks"),
        ("DELETE FROM timeline_entry WHERE seq = 8 AND code = 0", "timeline_entry lacks"),
        ("INSERT INTO string_entry VALUES (8, 1, 0, 'x', 'x')", "no body gives"),
        ("INSERT INTO quantity_entry VALUES (77, 1, 0, 1, x'', x'', x'', x'')", "no body gives"),
        ("UPDATE meta SET value = 50 WHERE name = 'outbox_position'", "ahead of"),
        ("DELETE FROM code", "lacks"),
    ],
)
def test_a_check_finds(filled, path, damage, fault):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(damage)
    connection.close()
    assert any(fault in found for found in filled.store.check().faults)


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        ("UPDATE delivery SET seq = 70", "not reached"),
        ("UPDATE delivery SET sink = 70", "goes nowhere"),
        ("UPDATE delivery SET state = 1", "owner"),
        ("UPDATE delivery SET state = 2", "last event"),
    ],
)
def test_a_check_finds_in_the_outbox(filled, path, damage, fault):
    from fhir_server.store.protocol import Routed

    filled.outbox.fan_out(lambda version: (Routed("s", "g"),), 1)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(damage)
    connection.close()
    assert any(fault in found for found in filled.store.check().faults)


def test_faults_tell_nothing_of_what_a_resource_says(filled, path):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("DELETE FROM token_entry")
        connection.execute("DELETE FROM identifier_entry")
        connection.execute("DELETE FROM body WHERE seq = 8")
    connection.close()
    told = " ".join(filled.store.check().faults)
    for said in ("urn:", "Blood", "2024"):
        assert said not in told
