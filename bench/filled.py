"""Filled stores, kept in a folder from run to run: filling takes longer than measuring."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from bench import fill, mongo_node
from bench.process import Process
from bench.readings import Population

Kind = Literal["sqlite", "mongo"]

_ROOT = Path(__file__).parent.parent
_CONTENT = (_ROOT / "bench" / "readings.py", _ROOT / "bench" / "fill.py")
_STAMP = "filled.sha256"
_MONGO_CACHE_GIGABYTES = 2.0


@dataclass(frozen=True)
class Store:
    """An open store: its URL, and the process of its database if it has one."""

    kind: Kind
    url: str
    folder: Path
    database: Process | None

    def bytes_on_disk(self) -> int:
        """What it takes, without the database's journal and log of operations."""
        pattern = "fhir.db*" if self.kind == "sqlite" else "data/*.wt"
        return sum(file.stat().st_size for file in self.folder.glob(pattern))


@contextmanager
def opened(kind: Kind, folder: Path) -> Iterator[Store]:
    """The store in a folder; made if there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "sqlite":
        yield Store(kind, f"sqlite:///{folder.absolute()}/fhir.db", folder, None)
        return
    with mongo_node.node(folder, _MONGO_CACHE_GIGABYTES) as node:
        yield Store(kind, mongo_node.url(node.port, "bench"), folder, node)


@contextmanager
def empty(kind: Kind) -> Iterator[Store]:
    """A store for one use."""
    with tempfile.TemporaryDirectory(prefix="fhir-bench-") as folder:
        with opened(kind, Path(folder)) as store:
            yield store


def kept(kind: Kind, population: Population, cache: Path, report: Callable[[int], None]) -> Path:
    """The folder of a store that holds this population, filled as far as it is not yet.

    One that was filled by other code is filled anew.
    """
    folder = cache / f"{kind}-{population.readings}"
    stamp, decided = folder / _STAMP, _digest(kind)
    if folder.exists() and (not stamp.exists() or stamp.read_text("ascii") != decided):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stamp.write_text(decided, "ascii")
    done = folder / "done"
    if not done.exists():
        with opened(kind, folder) as store:
            fill.fill(store.url, population, report)
        done.touch()
    return folder


@contextmanager
def copy(kind: Kind, folder: Path) -> Iterator[Store]:
    """A filled store to write to, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="copy-", dir=folder.parent) as scratch:
        target = Path(scratch) / "store"
        shutil.copytree(folder, target)
        with opened(kind, target) as store:
            yield store


def _digest(kind: Kind) -> str:
    """What decides how a population is kept: the store's code, and what is in it."""
    digest = sha256()
    for file in (*sorted((_ROOT / "fhir_server" / "store" / kind).iterdir()), *_CONTENT):
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()
