"""A server, or its database, stands still for a while and goes on: nothing is lost or doubled."""

import os
import signal
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

ROUNDS = max(2, int(2 * SCALE))


@pytest.fixture(scope="module")
def mongod(tmp_path_factory):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("a MongoDB that is not ours is not stopped")
    with provision.node(tmp_path_factory.mktemp("mongod")) as node:
        yield node


def freeze(send, seconds):
    send(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        send(signal.SIGCONT)


def test_clients_that_give_up_on_a_frozen_server_and_repeat_make_no_second_one(tmp_path):
    with running(Server(tmp_path)) as (server,):
        writers = [Writer([server.url], f"w{n}", patience=0.3) for n in range(6)]
        with writing(writers):
            for _ in range(ROUNDS):
                wait_for_more(writers, 20)
                freeze(server.send, 0.7)
            wait_for_more(writers, 20)
        assert sum(writer.refused["no answer"] for writer in writers) > 0
        assert_each_once(server.url, writers)
        assert_sound(server)


def test_while_one_of_two_servers_is_frozen_the_other_works_or_says_when(tmp_path):
    first, second = Server(tmp_path), Server(tmp_path)
    with running(first, second):
        # Both are asked for the same, so both try to create each.
        writers = [
            Writer(urls, f"w{n}", patience=8)
            for n in range(2)
            for urls in ([first.url, second.url], [second.url, first.url])
        ]
        with writing(writers):
            for frozen in (first, second) * (ROUNDS // 2):
                wait_for_more(writers, 20)
                freeze(frozen.send, 0.7)
            wait_for_more(writers, 20)
        assert_each_once(first.url, writers)
        assert_sound(second)


def test_a_frozen_database_is_waited_for_or_told_of(tmp_path, mongod):
    server = Server(tmp_path, mongod.url("frozen"))
    with running(server):
        writers = [Writer([server.url], f"w{n}", patience=40) for n in range(6)]
        with writing(writers):
            for _ in range(ROUNDS):
                wait_for_more(writers, 20)
                freeze(mongod.send, 1.5)
            wait_for_more(writers, 20)
        assert_each_once(server.url, writers)
        assert_sound(server)
