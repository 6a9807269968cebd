"""A MongoDB node on a folder that is kept: what was filled once serves many runs."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from bench.process import Process, free_port
from tests.provision.mongod import find_binary

_SET = "bench"
_PATIENCE = 120.0
_NOT_INITIATED = 94


def url(port: int, database: str) -> str:
    return f"mongodb://127.0.0.1:{port}/{database}?replicaSet={_SET}"


@contextmanager
def node(folder: Path, cache_gigabytes: float) -> Iterator[Process]:
    """A replica set of one node with its data in `folder`, on a port of its own."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    port = free_port()
    process = subprocess.Popen(
        [
            find_binary(),
            *("--dbpath", data, "--logpath", folder / "mongod.log"),
            *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
            *("--replSet", _SET, "--oplogSize", "1024"),
            *("--wiredTigerCacheSizeGB", str(cache_gigabytes)),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_primary(process, port)
        yield Process(port, process)
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def _await_primary(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + _PATIENCE
    with MongoClient[dict[str, object]](
        f"mongodb://127.0.0.1:{port}/?directConnection=true", serverSelectionTimeoutMS=500
    ) as client:
        while True:
            try:
                if client.admin.command("hello").get("isWritablePrimary"):
                    return
                _configure(client, f"127.0.0.1:{port}")
            except PyMongoError as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"mongod is not ready: {error}") from error
            time.sleep(0.1)


def _configure(client: MongoClient[dict[str, object]], address: str) -> None:
    """Make the node a set of its own at this address; its data knows the address of before."""
    try:
        config = client.admin.command("replSetGetConfig")["config"]
    except OperationFailure as error:
        if error.code != _NOT_INITIATED:
            raise
        members = [{"_id": 0, "host": address}]
        client.admin.command("replSetInitiate", {"_id": _SET, "members": members})
        return
    if config["members"][0]["host"] != address:
        config["members"][0]["host"] = address
        config["version"] += 1
        client.admin.command("replSetReconfig", config, force=True)
