"""The primary of three nodes steps down or dies under writes: what was acknowledged is there."""

import os
import time

import pytest

from tests.faults.kit import (
    SCALE,
    Server,
    Writer,
    assert_each_once,
    assert_sound,
    running,
    wait_for_more,
    writing,
)
from tests.provision import mongod as provision

ROUNDS = max(1, int(SCALE))


@pytest.fixture(scope="module")
def replica_set(tmp_path_factory):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("the nodes of a MongoDB that is not ours are not stopped")
    with provision.replica_set(tmp_path_factory.mktemp("set")) as nodes:
        yield nodes


def test_writes_go_on_over_primaries_that_step_down_and_die(tmp_path, replica_set):
    url = replica_set.url("elections")
    servers = Server(tmp_path, url), Server(tmp_path, url)
    with running(*servers):
        urls = [server.url for server in servers]
        writers = [Writer(urls[n % 2 :] + urls[: n % 2], f"w{n}", patience=40) for n in range(6)]
        pauses = []
        with writing(writers):
            for _ in range(ROUNDS):
                wait_for_more(writers, 20)
                begun = time.monotonic()
                replica_set.step_down()
                wait_for_more(writers, 20)
                pauses.append(time.monotonic() - begun)
                dying = replica_set.primary()
                begun = time.monotonic()
                dying.kill()
                wait_for_more(writers, 20)
                pauses.append(time.monotonic() - begun)
                dying.start()
        assert max(pauses) < 30
        # Two of three are enough to know all that was acknowledged.
        assert_each_once(servers[0].url, writers)
        assert_each_once(servers[1].url, writers)
        assert_sound(servers[0])
