"""Single commands of MongoDB fail: each write happens once or is refused, reads come back."""

import asyncio
import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from pymongo import MongoClient

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.entry import IndexEntries, TokenEntry
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import next_version
from fhir_server.errors import StoreUnavailable, TooCostly, VersionConflict
from fhir_server.store.mongo import documents, transactor
from fhir_server.store.mongo.committer import GroupLimits
from fhir_server.store.mongo.store import open_mongo
from fhir_server.store.protocol import HistoryQuery
from tests.provision import mongod as provision


@pytest.fixture(scope="module")
def mongod(tmp_path_factory):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("a MongoDB that is not ours is not made to fail")
    with provision.node(tmp_path_factory.mktemp("mongod")) as node:
        yield node


@pytest.fixture
def url(mongod, request):
    return mongod.url(f"fail-{abs(hash(request.node.name))}")


@pytest.fixture
def failing(mongod):
    """Makes commands fail, so many times, within its block."""
    with MongoClient(mongod.url("admin")) as client:

        @contextmanager
        def fail(*commands, times=1, **how):
            labels = how.pop("labels", None)
            data = {"failCommands": list(commands), "appName": "fhir-server", **how}
            if labels is not None:
                data["errorLabels"] = labels
            mode = "alwaysOn" if times is None else {"times": times}
            point = {"configureFailPoint": "failCommand", "mode": mode, "data": data}
            client.admin.command(point)
            try:
                yield
            finally:
                off = {"configureFailPoint": "failCommand", "mode": "off"}
                met = client.admin.command(off)["count"]
            assert met, "no command failed"

        yield fail


def index(resource):
    value = resource.get("identifier")
    return IndexEntries(tokens=(TokenEntry("identifier", "s", value, True),) if value else ())


def opened(url, patience=10.0):
    return open_mongo(
        url,
        index,
        SearchParameters(()),
        lambda: datetime.fromtimestamp(time.time(), UTC),
        limits=GroupLimits(patience=patience),
    )


def creating(resource_id):
    def decide(tx):
        key = ResourceKey("Patient", resource_id)
        tx.find("Patient", [("s", resource_id)])
        resource = {"resourceType": "Patient", "identifier": resource_id}
        version, stored = next_version(tx.read(key), key, resource, tx.now)
        tx.put(version, stored)
        return version.version_id

    return decide


async def ids(store):
    return [version.key.resource_id for version in await store.changes(0, 100)]


def run(url, scene, **options):
    async def go():
        store = opened(url, **options)
        try:
            await store.commit(creating("first"))
            await scene(store)
            checked = await asyncio.to_thread(store.check)
            assert checked.faults == ()
        finally:
            await store.close()

    asyncio.run(asyncio.wait_for(go(), 60))


TRANSIENT = ["TransientTransactionError"]
CUT = {"closeConnection": True}


CONFLICT = {"errorCode": 112, "labels": TRANSIENT}
GONE = {"errorCode": 251, "labels": TRANSIENT}
ANYWHERE = [
    (command, how)
    for command in ("findAndModify", "find", "update")
    for how in (CUT, CONFLICT, {"errorCode": 11602})
]


@pytest.mark.parametrize(
    ("command", "how"),
    [
        *ANYWHERE,
        *(("insert", how) for how in (CUT, CONFLICT, GONE)),
        *(("insert", {"errorCode": code}) for code in (11601, 11602, 91, 10107, 189, 50)),
    ],
    ids=str,
)
def test_a_group_whose_command_fails_runs_again_and_is_written_once(url, failing, command, how):
    async def scene(store):
        with failing(command, times=2, **how):
            assert await store.commit(creating("second")) == 1
        assert await ids(store) == ["first", "second"]

    run(url, scene)


@pytest.mark.parametrize(
    "how",
    [
        # Before the commit was done.
        CUT,
        {"errorCode": 91},
        {"errorCode": 11601},
        {"errorCode": 50},
        GONE,
        # Behind it, so that running again would write twice.
        *(
            {"writeConcernError": {"code": code, "errmsg": "not yet"}}
            for code in (11601, 91, 64, 79, 100)
        ),
    ],
    ids=str,
)
def test_a_commit_that_answers_badly_happens_once(url, failing, how):
    async def scene(store):
        with failing("commitTransaction", times=2, **how):
            # Written twice it would be version 2, and a create that collides a conflict.
            assert await store.commit(creating("second")) == 1
        assert await ids(store) == ["first", "second"]

    run(url, scene)


@pytest.mark.parametrize("command", ["insert", "find", "commitTransaction"])
def test_puts_that_are_written_while_the_next_decision_runs_are_written_once(url, failing, command):
    def many(name, error=None):
        def decide(tx):
            for number in range(150):
                creating(f"{name}-{number}")(tx)
            if error:
                raise error

        return decide

    async def scene(store):
        refused = VersionConflict("not this one")
        with failing(command, times=2, **CUT):
            answers = await asyncio.gather(
                *(store.commit(many(name)) for name in "ab"),
                store.commit(many("refused", refused)),
                *(store.commit(many(name)) for name in "cd"),
                return_exceptions=True,
            )
        assert answers == [None, None, refused, None, None]
        stored = [v.key.resource_id for v in await store.changes(0, 1_000)]
        wanted = [f"{name}-{number}" for name in "abcd" for number in range(150)]
        assert stored == ["first", *wanted]

    run(url, scene)


def test_a_commit_that_is_silent_happens_once(url, failing, monkeypatch):
    monkeypatch.setattr(documents, "LONGEST_ANSWER", 200)

    async def scene(store):
        with failing("commitTransaction", blockConnection=True, blockTimeMS=1_500):
            assert await store.commit(creating("second")) == 1
        assert await ids(store) == ["first", "second"]

    run(url, scene)


def test_an_insert_that_is_silent_is_written_once(url, failing, monkeypatch):
    monkeypatch.setattr(documents, "LONGEST_ANSWER", 200)

    async def scene(store):
        with failing("insert", blockConnection=True, blockTimeMS=1_500):
            assert await store.commit(creating("second")) == 1
        assert await ids(store) == ["first", "second"]

    run(url, scene)


def test_an_abort_that_fails_leaves_nothing(url, failing):
    async def scene(store):
        with failing("insert", "abortTransaction", times=4, errorCode=11602):
            await store.commit(creating("second"))
        assert await ids(store) == ["first", "second"]

    run(url, scene)


@pytest.mark.parametrize("command", ["findAndModify", "insert"])
def test_what_fails_for_too_long_is_refused_and_nothing_is_kept(url, failing, command):
    async def scene(store):
        with failing(command, times=None, errorCode=10107), pytest.raises(StoreUnavailable):
            await store.commit(creating("second"))
        assert await ids(store) == ["first"]
        await store.commit(creating("second"))
        assert await ids(store) == ["first", "second"]

    run(url, scene, patience=0.3)


def test_a_commit_nobody_can_tell_about_is_refused_and_never_decided_again(
    url, failing, monkeypatch
):
    monkeypatch.setattr(transactor, "_GRACE", 0.3)

    async def scene(store):
        unsure = {"writeConcernError": {"code": 11601, "errmsg": "not yet"}}
        runs = []

        def decide(tx):
            runs.append(tx)
            return creating("second")(tx)

        with (
            failing("commitTransaction", times=None, **unsure),
            pytest.raises(StoreUnavailable),
        ):
            await store.commit(decide)
        assert len(runs) == 1
        assert await ids(store) == ["first", "second"]

    run(url, scene, patience=0.3)


def test_a_duplicate_key_is_a_conflict_and_spares_the_rest_of_the_group(url):
    def colliding(tx):
        key = ResourceKey("Patient", "first")
        version, stored = next_version(None, key, {"resourceType": "Patient"}, tx.now)
        tx.put(version, stored)

    async def scene(store):
        answers = await asyncio.gather(
            *(store.commit(decide) for decide in (creating("a"), colliding, creating("b"))),
            return_exceptions=True,
        )
        assert answers[0] == answers[2] == 1
        assert isinstance(answers[1], VersionConflict)
        assert await ids(store) == ["first", "a", "b"]

    run(url, scene)


@pytest.mark.parametrize("how", [CUT, {"errorCode": 11602}, {"errorCode": 189}], ids=str)
def test_a_read_that_fails_once_is_asked_again(url, failing, how):
    async def scene(store):
        with failing("find", **how):
            assert await store.read(ResourceKey("Patient", "first")) is not None

    run(url, scene)


@pytest.mark.parametrize(
    "how",
    [CUT, {"errorCode": 11601}, {"errorCode": 43}, {"errorCode": 175}, {"errorCode": 50}],
    ids=str,
)
def test_a_read_that_goes_on_failing_is_refused_and_comes_back_by_itself(url, failing, how):
    async def scene(store):
        with failing("find", times=None, **how), pytest.raises(StoreUnavailable):
            await store.read(ResourceKey("Patient", "first"))
        assert await store.read(ResourceKey("Patient", "first")) is not None

    run(url, scene)


def test_a_read_of_the_clients_making_that_takes_too_long_is_too_costly(url, failing):
    async def scene(store):
        with failing("aggregate", errorCode=50), pytest.raises(TooCostly):
            await store.history(HistoryQuery("Patient"))

    run(url, scene)


def test_the_outbox_refuses_and_goes_on(url, failing):
    async def scene(store):
        outbox = store.outbox
        with failing("find", "aggregate", times=None, **CUT), pytest.raises(StoreUnavailable):
            await asyncio.to_thread(outbox.counts)
        assert await asyncio.to_thread(outbox.counts) == {}

    run(url, scene)
