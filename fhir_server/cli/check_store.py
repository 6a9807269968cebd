"""`fhir-server check-store`: whether what the store holds agrees with itself."""

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing.util import Finalize
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_server.app import now
from fhir_server.cli.start_up import read_settings, told_in_one_line
from fhir_server.core.search.index import Indexer
from fhir_server.definitions import load
from fhir_server.garbage import tune_garbage_collection
from fhir_server.settings import Settings
from fhir_server.store.checking import Checked, Findings
from fhir_server.store.open import OpenStore, open_store, sqlite_path

_stdout = Console(soft_wrap=True)
_stderr = Console(stderr=True, soft_wrap=True)

# More of them say nothing new, and a large store may have many of one kind.
_SHOWN = 200

# Below that the processes take longer to start than to look.
_WORTH_PROCESSES = 50_000
_PART = 5_000


def check_store(
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, help="How many read a large store; as many as processors.")
    ] = None,
) -> None:
    """Verify versions, index entries and outbox against each other; the server may run."""
    with told_in_one_line():
        settings = read_settings(**({} if store is None else {"store": store}))
        path = sqlite_path(settings.store) if settings.store.startswith("sqlite:") else None
        if path is not None and not path.exists():
            raise ValueError(f"there is no store at {path}")
        found = asyncio.run(_check(settings, processes or os.cpu_count() or 1))
    for name, number in found.counts.items():
        _stdout.print(f"{name}: {number}", highlight=False)
    for fault in found.faults[:_SHOWN]:
        _stderr.print(fault, style="red", markup=False, highlight=False)
    if len(found.faults) > _SHOWN:
        _stderr.print(f"and {len(found.faults) - _SHOWN} more", style="red")
    if found.faults:
        raise typer.Exit(1)
    _stdout.print("nothing is wrong")


async def _check(settings: Settings, processes: int) -> Findings:
    store = _open(settings)
    try:
        newest = (await store.extent()).newest
        with _progress() as progress:
            task = progress.add_task("versions", total=newest)

            def advance(number: int) -> None:
                progress.update(task, advance=number)

            if processes == 1 or newest < _WORTH_PROCESSES:
                return await asyncio.to_thread(store.check, advance)
            bodies = await asyncio.to_thread(_check_bodies, settings, processes, newest, advance)
            return await asyncio.to_thread(store.check, advance, bodies)
    finally:
        await store.close()


def _check_bodies(
    settings: Settings, processes: int, newest: int, advance: Callable[[int], None]
) -> list[Checked]:
    # Not forked: threads and connections of this process would be half there.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin, (settings,)) as pool:
        parts = {
            pool.submit(_check_part, first, last): last - first + 1
            for first in range(1, newest + 1, _PART)
            for last in [min(first + _PART - 1, newest)]
        }
        for done in as_completed(parts):
            advance(parts[done])
    return [part.result() for part in parts]


_opened: list[OpenStore] = []


def _begin(settings: Settings) -> None:
    """In a process of its own: open the store that `_check_part` looks at."""
    store = _open(settings)
    _opened.append(store)
    Finalize(None, lambda: asyncio.run(store.close()), exitpriority=0)


def _check_part(first: int, last: int) -> Checked:
    return _opened[0].check_bodies(first, last)


def _open(settings: Settings) -> OpenStore:
    definitions = load(settings.mappings, settings.profiles, settings.terminology)
    indexer = Indexer(definitions.parameters, definitions.element_types, settings.time_zone)
    extend = definitions.extension(settings.time_zone).extend
    store = open_store(settings.store, indexer, definitions.parameters, now, extend)
    tune_garbage_collection()
    return store


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
        console=_stderr,
        transient=True,
    )
