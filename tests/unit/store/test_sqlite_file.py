"""The file: made, upgraded or refused; busy, full or away."""

import sqlite3
import stat
import threading

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.errors import StoreUnavailable, TooCostly, Unsupported
from fhir_server.store.open import open_store, sqlite_path
from fhir_server.store.sqlite import checkpoint, schema
from fhir_server.store.sqlite.committer import GroupLimits
from fhir_server.store.sqlite.reader import ReadLimits

PATIENT = {"resourceType": "Patient", "id": "p1"}
KEY = ResourceKey("Patient", "p1")
NEWEST = "Observation?patient=Patient/p1&code=urn:s|bp&_sort=-date"


def test_a_file_of_a_newer_release_is_refused(path, driver, open_driver):
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.migrations()) + 1}")
    connection.close()
    with pytest.raises(Unsupported, match="newer release"):
        open_driver()


def test_another_programs_file_is_refused_and_left_alone(path, open_driver):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(Unsupported, match="another program"):
        open_driver()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("precious",)]
    connection.close()


def test_what_is_no_database_is_refused(path, open_driver):
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreUnavailable):
        open_driver()


def test_a_folder_that_cannot_be_made_is_told(tmp_path, definitions, indexer):
    (tmp_path / "file").write_text("")
    url = f"sqlite:///{tmp_path}/file/fhir.db"
    with pytest.raises(StoreUnavailable):
        open_store(url, indexer.index, definitions.parameters, lambda: None)


def test_the_file_is_its_owners_alone(path, driver):
    driver.write(PATIENT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_many_may_make_the_same_file_at_once(path):
    errors = []

    def upgrade():
        connection = sqlite3.connect(path, isolation_level=None, timeout=20)
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            schema.upgrade(connection)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=upgrade) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_an_upgrade_counts_the_deliveries_that_are_there(path):
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.MonkeyPatch.context() as patch:
        first = schema.migrations()[:1]
        patch.setattr(schema, "migrations", lambda: first)
        schema.upgrade(connection)
    columns = 'sink, seq, resource, "group", state, attempts, due, queued_at, changed_at'
    for seq, state in enumerate((0, 0, 2)):
        connection.execute(
            f"INSERT INTO delivery ({columns}, owner, reason, receipt) "
            "VALUES (1, ?, 1, '', ?, 0, 0, 0, 0, '', '', '')",
            (seq, state),
        )
    schema.upgrade(connection)
    connection.execute("UPDATE delivery SET state = 1 WHERE seq = 0")
    counted = connection.execute("SELECT state, number FROM delivery_count").fetchall()
    assert counted == [(0, 1), (1, 1), (2, 1)]
    connection.close()


def test_a_file_of_the_first_schema_is_brought_up_to_date(path, open_driver, monkeypatch):
    families = ["b", "a", "c"]
    people = [
        {"resourceType": "Patient", "id": name, "name": [{"family": name}]} for name in families
    ]
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_STEPS", schema._STEPS[:1])
        older = open_driver()
        older.write(*people)
        older.run(older.store.close())
    driver = open_driver(sort_limit=0)
    assert driver.ids("Patient?_sort=family") == ["a", "b", "c"]
    assert driver.ids("Patient?_sort=-family&_count=2") == ["c", "b"]
    driver.run(driver.store.keep("name", "sealed"))
    assert driver.run(driver.store.kept("name")) == "sealed"
    assert driver.store.check().faults == ()


def test_an_upgraded_file_knows_what_is_no_longer_current(path, open_driver, monkeypatch):
    first, second, third = (
        {
            "resourceType": "Observation",
            "id": f"o{number}",
            "status": "final",
            "code": {"coding": [{"system": "urn:s", "code": "bp"}]},
            "subject": {"reference": "Patient/p1"},
            "effectiveDateTime": f"2024-03-1{number}",
        }
        for number in range(3)
    )
    with monkeypatch.context() as patch:
        patch.setattr(schema, "_STEPS", schema._STEPS[:5])
        older = open_driver()
        older.write(first, second, third)
        older.write(second | {"status": "amended"})
        older.delete(ResourceKey("Observation", "o2"))
        older.run(older.store.close())
    driver = open_driver()
    found = driver.search(NEWEST).versions
    shown = driver.run(driver.store.first_page(driver.query(NEWEST)))
    assert [(v.key.resource_id, v.version_id) for v in found] == [("o1", 2), ("o0", 1)]
    assert list(shown.bodies) == [v.body for v in found]


def test_what_a_first_page_shows_is_found_without_its_versions(driver):
    code = {"coding": [{"system": "urn:s", "code": "bp"}]}
    of_patient = {"subject": {"reference": "Patient/p1"}, "effectiveDateTime": "2024-03-11"}
    driver.write({"resourceType": "Observation", "id": "o1", "code": code, **of_patient})
    assert driver.ids(NEWEST) == ["o1"]
    pages = driver.store._searcher._first_pages

    def steps(connection):
        plan, values = pages._bind(connection, driver.query(NEWEST))
        return connection.execute(f"EXPLAIN QUERY PLAN {plan.shown}", values).fetchall()

    found = [step for *_, step in driver.store.readers.point(steps)]
    # The newest of all is the moment of the page.
    known, newest = sorted(step for step in found if step.split()[1] in ("v", "version"))
    assert known.startswith("SEARCH v USING COVERING INDEX version_superseded")
    assert newest == "SEARCH version"


def test_a_failed_step_of_an_upgrade_leaves_nothing(path, monkeypatch):
    steps = (*schema.migrations(), "CREATE TABLE half (x); CREATE TABLE half (x);")
    connection = sqlite3.connect(path, isolation_level=None)
    monkeypatch.setattr(schema, "migrations", lambda: steps)
    with pytest.raises(sqlite3.OperationalError):
        schema.upgrade(connection)
    assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    connection.close()


def test_a_closed_store_leaves_one_file(path, driver):
    driver.write(PATIENT)
    driver.run(driver.store.close())
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_store_in_memory_leaves_nothing(definitions, indexer, open_driver):
    driver = open_driver()

    async def in_memory():
        store = open_store(
            "sqlite:///:memory:", indexer.index, definitions.parameters, driver.clock
        )
        await store.commit(lambda tx: None)
        found = store.path
        assert found.exists()
        await store.close()
        return found

    assert not driver.run(in_memory()).parent.exists()


def test_a_file_that_stays_locked_is_unavailable_and_comes_back(path, open_driver):
    driver = open_driver(busy_seconds=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        driver.write(PATIENT)
    assert driver.run(driver.store.is_ready()) is False
    assert driver.read(KEY) is None
    other.execute("ROLLBACK")
    other.close()
    assert driver.run(driver.store.is_ready()) is True
    driver.write(PATIENT)
    assert driver.read(KEY).version_id == 1


def test_a_full_disk_keeps_nothing_and_is_told(driver):
    driver.write(PATIENT)
    connection = driver.store.committer._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    large = [
        {"resourceType": "Patient", "id": f"x{n}", "name": [{"text": "x" * 3000}]}
        for n in range(200)
    ]
    with pytest.raises(StoreUnavailable):
        driver.write(*large)
    assert [v.key for v in driver.run(driver.store.changes(0, 1000))] == [KEY]
    connection.execute("PRAGMA max_page_count = 1000000")
    driver.write(*large)
    assert len(driver.run(driver.store.changes(0, 1000))) == 201
    assert driver.store.check().faults == ()


def test_more_than_may_wait_is_refused_at_once(open_driver):
    import asyncio

    driver = open_driver(group_limits=GroupLimits(queued=3))
    blocked, go_on = threading.Event(), threading.Event()

    def block(tx):
        blocked.set()
        go_on.wait(10)

    async def too_many():
        first = asyncio.ensure_future(driver.store.commit(block))
        await asyncio.to_thread(blocked.wait, 10)
        others = [asyncio.ensure_future(driver.store.commit(lambda tx: 1)) for _ in range(5)]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(first, *others, return_exceptions=True)

    outcomes = driver.run(too_many())
    assert outcomes[:4] == [None, 1, 1, 1]
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes[4:])


def test_a_change_that_waited_too_long_is_not_made(open_driver):
    driver = open_driver(group_limits=GroupLimits(wait_seconds=-1))
    with pytest.raises(StoreUnavailable):
        driver.write(PATIENT)
    assert driver.read(KEY) is None


def test_a_long_search_leaves_the_loop_and_ends_at_its_limit(open_driver):
    driver = open_driver(read_limits=ReadLimits(inline=0.0, total=30.0))
    driver.write(*({"resourceType": "Patient", "id": f"p{n}"} for n in range(300)))
    assert len(driver.ids("Patient?_sort=-_id&_count=500")) == 300
    strict = open_driver(read_limits=ReadLimits(inline=0.0, total=0.0))
    with pytest.raises(TooCostly):
        strict.ids("Patient?_sort=-_id&_count=500")
    assert strict.read(ResourceKey("Patient", "p5")).version_id == 1


def test_a_long_search_in_a_decision_fails_it_alone(open_driver):
    driver = open_driver(read_limits=ReadLimits(decision=0.0))
    driver.write(*({"resourceType": "Patient", "id": f"p{n}"} for n in range(300)))

    def decide(tx):
        driver.put(tx, PATIENT | {"id": "mine"})
        try:
            tx.search(driver.query("Patient?_sort=-_id&_count=500"))
        finally:
            driver.put(tx, PATIENT | {"id": "mine-too"})

    with pytest.raises(TooCostly):
        driver.commit(decide)
    driver.write(PATIENT)
    assert len(driver.run(driver.store.changes(0, 1000))) == 301


def test_the_log_begins_anew_under_writes_without_a_pause(path, open_driver, monkeypatch):
    monkeypatch.setattr(checkpoint, "_CHANGES", 200)
    monkeypatch.setattr(checkpoint, "_TOO_LONG", 100)
    driver = open_driver()
    log = path.with_name("fhir.db-wal")
    sizes = []
    for batch in range(60):
        driver.write(
            *({"resourceType": "Patient", "id": f"{batch}-{n}", "active": True} for n in range(40))
        )
        sizes.append(log.stat().st_size)
    assert sizes[-1] < 250 * 4096 * 2
    assert driver.store.check().faults == ()


@pytest.mark.parametrize(
    "url",
    ["sqlite://fhir.db", "sqlite:///", "sqlite://host/fhir.db", "sqlite:///a?mode=ro", "file:///a"],
)
def test_a_url_that_names_no_file_is_refused(url):
    with pytest.raises(ValueError, match="sqlite:///"):
        sqlite_path(url)


def test_urls_name_files():
    assert str(sqlite_path("sqlite:///./data/fhir.db")) == "data/fhir.db"
    assert str(sqlite_path("sqlite:////var/a%20b.db")) == "/var/a b.db"
    assert sqlite_path("sqlite:///:memory:") is None


def test_an_unknown_scheme_is_refused(definitions, indexer):
    with pytest.raises(ValueError, match="scheme"):
        open_store("mysql://x/y", indexer.index, definitions.parameters, lambda: None)
