"""Registrations and passing things: the same on both stores, whoever else is at work."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from fhir_server.store.security.open import open_security_store
from tests.contract.conftest import Clock


class Opener:
    """Opens the same security store again and again, as processes do."""

    def __init__(self, url):
        self.url = url
        self.clock = Clock()
        # MongoDB forgets what is over by the clock on its wall.
        self.clock.time = self.clock.time.replace(year=2999)
        self.opened = []

    def __call__(self):
        self.opened.append(open_security_store("", self.url, self.clock))
        return self.opened[-1]


@pytest.fixture
def opener(store_kind, new_url, tmp_path):
    url = f"sqlite:///{tmp_path}/fhir.db" if store_kind == "sqlite" else new_url("mongo")
    opener = Opener(url)
    yield opener
    for store in opener.opened:
        store.close()


@pytest.fixture
def store(opener):
    return opener()


def test_a_change_is_seen_by_every_process_with_a_new_revision(opener, store):
    other = opener()
    before = other.revision()
    store.change("client", "a", lambda found: {"was": found})
    assert other.revision() != before
    assert other.find("client", "a") == {"was": None}
    assert [each.name for each in other.list("client")] == ["a"]
    assert other.find("gateway", "a") is None
    before = other.revision()
    assert store.change("client", "a", lambda _: None) is None
    assert other.revision() != before
    assert other.find("client", "a") is None


def test_a_decision_that_raises_changes_nothing(store):
    store.change("client", "a", lambda _: {"n": 1})
    before = store.revision()

    def refuse(_):
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        store.change("client", "a", refuse)
    assert store.find("client", "a") == {"n": 1}
    assert store.revision() == before


def test_changes_at_once_are_all_made(opener):
    def count(store):
        for _ in range(10):
            store.change("client", "a", lambda found: {"n": (found or {"n": 0})["n"] + 1})

    stores = [opener() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(count, stores))
    assert stores[0].find("client", "a") == {"n": 30}


def test_what_passes_is_kept_once_until_it_is_over(opener, store):
    other = opener()
    until = opener.clock() + timedelta(minutes=1)
    revision = store.revision()
    assert store.keep("jti", "x", {"by": 1}, until)
    assert not other.keep("jti", "x", {"by": 2}, until)
    assert other.keep("code", "x", {"by": 3}, until)
    assert other.look("jti", "x") == {"by": 1}
    opener.clock.advance(60)
    assert other.look("jti", "x") is None
    assert other.keep("jti", "x", {"by": 2}, until + timedelta(minutes=1))
    assert store.look("jti", "x") == {"by": 2}
    assert store.revision() == revision


def test_of_many_who_keep_the_same_one_succeeds(opener):
    until = opener.clock() + timedelta(minutes=1)
    stores = [opener() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        kept = list(pool.map(lambda store: store.keep("jti", "x", {}, until), stores))
    assert sorted(kept) == [False, False, False, True]


def test_of_many_who_take_the_same_one_succeeds(opener):
    until = opener.clock() + timedelta(minutes=1)
    stores = [opener() for _ in range(4)]
    stores[0].keep("code", "x", {"secret": 1}, until)

    def take(store):
        seen = []

        def decide(found):
            seen.append(found)

        store.amend("code", "x", decide)
        return seen[-1]

    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(take, stores))
    assert [each for each in taken if each] == [{"secret": 1}]


def test_what_passes_is_amended_and_ends_when_it_would_have(opener, store):
    assert store.amend("refresh", "x", lambda found: found) is None
    store.keep("refresh", "x", {"n": 1}, opener.clock() + timedelta(seconds=10))
    assert store.amend("refresh", "x", lambda found: {"n": found["n"] + 1}) == {"n": 2}
    assert store.look("refresh", "x") == {"n": 2}
    opener.clock.advance(10)
    assert store.look("refresh", "x") is None
    assert store.amend("refresh", "x", lambda found: {"was": found}) is None


def test_the_file_is_for_the_servers_user_alone(tmp_path):
    store = open_security_store("", f"sqlite:///{tmp_path}/fhir.db", Clock())
    store.change("client", "a", lambda _: {})
    store.close()
    files = list(tmp_path.iterdir())
    assert [path.name for path in files] == ["security.db"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_a_file_of_something_else_is_not_touched(tmp_path):
    import sqlite3

    from fhir_server.errors import Unsupported

    path = tmp_path / "security.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE patient (name TEXT)")
    connection.close()
    with pytest.raises(Unsupported):
        open_security_store("", f"sqlite:///{tmp_path}/fhir.db", Clock())
