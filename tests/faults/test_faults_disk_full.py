"""The disk is full: writes are refused and worth a repeat, reads go on, nothing is half stored."""

import contextlib
import os
import resource
import subprocess
import threading

import pytest
import requests

from tests.faults.kit import (
    SCALE,
    Server,
    Writer,
    assert_each_once,
    assert_sound,
    check_refusal,
    running,
    wait_for_more,
    wait_until,
    writing,
)
from tests.provision import mongod as provision

ROUNDS = max(1, int(SCALE))


class SmallDisk:
    """A file system of its own of a few MiB, in memory."""

    def __init__(self, folder, mebibytes):
        self.folder = folder
        self.folder.mkdir()
        self.mebibytes = mebibytes
        self._mount("size", folder)

    def _mount(self, option, folder):
        size = f"size={self.mebibytes}m"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder], check=True, capture_output=True
        )

    def grow(self, mebibytes):
        self.mebibytes += mebibytes
        subprocess.run(
            ["mount", "-o", f"remount,size={self.mebibytes}m", self.folder],
            check=True,
            capture_output=True,
        )

    def free(self):
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def unmount(self):
        # A process that was killed a moment ago may still hold it.
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@contextlib.contextmanager
def small_disk(folder, mebibytes):
    try:
        disk = SmallDisk(folder, mebibytes)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system can be mounted here; the limit on file sizes stands for it")
    try:
        yield disk
    finally:
        disk.unmount()


def post(server, value, padding):
    writer = Writer([server.url], "none", padding=padding)
    body = {
        "resourceType": "Basic",
        "identifier": [{"system": "urn:fault", "value": value}],
        "code": {"text": value},
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{writer.padding}</div>',
        },
    }
    return writer.post(server.url, body, value)


def refused_value(server):
    """What one asked to store, was refused, and did not ask again."""
    for number in range(200):
        value = f"never-repeated-{number}"
        answer = post(server, value, 400_000)
        assert answer is not None
        # A log that begins anew has room for some more.
        if answer.status_code != 201:
            check_refusal(answer)
            return value
    raise AssertionError("the disk is never full")


def check_service_without_space(server, writers, make_space):
    """Refusals while there is no space, all of it well again when there is some."""
    with writing(writers):
        wait_until(lambda: sum(writer.refused[503] for writer in writers) >= 3)
        known = next(value for writer in writers for value in writer.acknowledged)
        answer = server.get("Basic", identifier=f"urn:fault|{known}")
        assert answer.status_code == 200
        assert len(answer.json()["entry"]) == 1
        refused = refused_value(server)
        assert requests.get(f"{server.url}/health/live", timeout=10).status_code == 200
        make_space()
        wait_until(server.is_ready)
        wait_for_more(writers, 20)
    assert_each_once(server.url, writers)
    assert "entry" not in server.get("Basic", identifier=f"urn:fault|{refused}").json()


def test_on_a_full_disk_writes_are_refused_and_go_on_when_there_is_space(tmp_path):
    # Space is back when the log, at most as long as all that was written, fits the file.
    with small_disk(tmp_path / "small", 8) as disk:
        server = Server(tmp_path, f"sqlite:///{disk.folder}/fhir.db")
        with running(server):
            writers = []
            for number in range(min(ROUNDS, 3)):
                first, second = (
                    [Writer([server.url], f"{number}{part}{n}", padding=150_000) for n in range(4)]
                    for part in "ab"
                )
                check_service_without_space(server, first, lambda: disk.grow(disk.mebibytes + 8))
                with writing(second):
                    wait_until(lambda w=second: sum(each.refused[503] for each in w) >= 3)
                    server.kill()
                    disk.grow(disk.mebibytes + 8)
                    server.start()
                    wait_for_more(second, 20)
                writers += first + second
                assert_each_once(server.url, writers)
            server.kill()
            assert_sound(server)


def test_what_does_not_fit_a_limit_on_file_sizes_is_refused_too(tmp_path):
    server = Server(tmp_path)
    with running(server):
        unlimited = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
        writers = [Writer([server.url], f"w{n}", padding=20_000) for n in range(4)]
        stopped = threading.Event()
        writers[0].run(stopped, most=5)
        size = max(path.stat().st_size for path in tmp_path.glob("fhir.db*"))
        limit = (size + 1_000_000, unlimited[1])
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, limit)

        def lift():
            resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, unlimited)

        check_service_without_space(server, writers, lift)
        assert_sound(server)


@pytest.fixture
def mongod_on_small_disk(tmp_path):
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("a MongoDB that is not ours gets no other disk")
    with small_disk(tmp_path / "small", 420) as disk, provision.node(disk.folder) as node:
        yield node, disk


def test_a_database_without_space_is_told_of_and_comes_back(tmp_path, mongod_on_small_disk):
    node, disk = mongod_on_small_disk
    server = Server(tmp_path, node.url("full"))
    with running(server):
        writers = [Writer([server.url], f"w{n}", patience=60, padding=50_000) for n in range(4)]
        with writing(writers):
            wait_for_more(writers, 20)
            ballast = disk.folder / "ballast"
            with ballast.open("wb") as file:
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, max(1, disk.free() - 2 * 1024 * 1024))
            # MongoDB ends itself rather than go on without its journal.
            wait_until(lambda: not node.is_running())
            ballast.unlink()
            node.start()
            wait_for_more(writers, 20)
        assert_each_once(server.url, writers)
        assert_sound(server)
