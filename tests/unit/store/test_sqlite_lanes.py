"""Who reads for long keeps only those waiting who do so too."""

import asyncio
import os
import sys
import threading
import time
from functools import partial

import pytest

from fhir_server.errors import StoreUnavailable, TooCostly
from fhir_server.store.sqlite.connection import open_connection
from fhir_server.store.sqlite.reader import Readers, ReadLimits


@pytest.fixture(name="open_readers")
def make_readers(tmp_path):
    opened = []

    def open_readers(**limits):
        path = tmp_path / "lanes.db"
        open_connection(path, is_reader=False, busy_seconds=1.0).close()
        connect = partial(open_connection, path, is_reader=True, busy_seconds=1.0)
        opened.append(Readers(connect, ReadLimits(**limits)))
        return opened[-1]

    yield open_readers
    for readers in opened:
        readers.close()


def counted(steps):
    """Work that counts so far, and tells which thread did and how nice that was."""

    def work(connection):
        rows = connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "SELECT count(*) FROM n",
            (steps,),
        )
        niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        return rows.fetchone()[0], threading.current_thread().name, niceness

    return work


ENDLESS = counted(10**12)


def test_medium_searches_do_not_wait_for_long_ones(open_readers):
    readers = open_readers(inline=0.001, medium=0.05, total=3.0, threads=2)

    async def ask():
        scans = [asyncio.create_task(readers.run(ENDLESS)) for _ in range(2)]
        await asyncio.sleep(0.5)
        begun = time.monotonic()
        count, thread, _ = await readers.run(counted(60_000))
        waited = time.monotonic() - begun
        ended = await asyncio.gather(*scans, return_exceptions=True)
        return count, thread, waited, ended

    count, thread, waited, ended = asyncio.run(ask())
    assert (count, thread[:13]) == (60_000, "sqlite-medium")
    assert waited < 2.0
    assert all(isinstance(end, TooCostly) for end in ended)


@pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")
def test_long_searches_leave_the_processor_to_others(open_readers):
    readers = open_readers(inline=0.0, medium=0.0, total=60.0)
    count, thread, niceness = asyncio.run(readers.run(counted(2_000_000)))
    assert (count, thread[:11]) == (2_000_000, "sqlite-long")
    own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert niceness == min(own + 10, 19)


def test_more_than_may_wait_for_a_thread_are_refused(open_readers):
    readers = open_readers(inline=0.0, medium=0.3, total=0.4, threads=1, waiting=2)

    async def ask():
        return await asyncio.gather(
            *(readers.run(ENDLESS) for _ in range(6)), return_exceptions=True
        )

    ended = asyncio.run(ask())
    assert all(isinstance(end, StoreUnavailable | TooCostly) for end in ended)
    # One works and two wait; who of those comes to the long ones has a turn there, or none in time.
    assert len([end for end in ended if "too many" in str(end)]) == 3


def test_one_statement_is_given_up_rather_than_waited_for(open_readers):
    readers = open_readers(inline=0.001)
    assert readers.at_once(counted(10))[0] == 10
    assert readers.at_once(ENDLESS) is None
