"""`fhir-server check-store`: whether what the store holds agrees with itself."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from fhir_server.app import now
from fhir_server.cli.start_up import read_settings, told_in_one_line
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.definitions import load
from fhir_server.store.open import Findings, open_store, sqlite_path
from fhir_server.store.protocol import Extend

_stdout = Console(soft_wrap=True)
_stderr = Console(stderr=True, soft_wrap=True)

# More of them say nothing new, and a large store may have many of one kind.
_SHOWN = 200


def check_store(
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
) -> None:
    """Verify versions, index entries and outbox against each other; the server may run."""
    with told_in_one_line():
        settings = read_settings(**({} if store is None else {"store": store}))
        path = sqlite_path(settings.store) if settings.store.startswith("sqlite:") else None
        if path is not None and not path.exists():
            raise ValueError(f"there is no store at {path}")
        definitions = load(settings.mappings, settings.profiles, settings.terminology)
        indexer = Indexer(definitions.parameters, definitions.element_types, settings.time_zone)
        extend = definitions.extension(settings.time_zone).extend
        found = asyncio.run(_check(settings.store, indexer, definitions.parameters, extend))
    for name, number in found.counts.items():
        _stdout.print(f"{name}: {number}", highlight=False)
    for fault in found.faults[:_SHOWN]:
        _stderr.print(fault, style="red", markup=False, highlight=False)
    if len(found.faults) > _SHOWN:
        _stderr.print(f"and {len(found.faults) - _SHOWN} more", style="red")
    if found.faults:
        raise typer.Exit(1)
    _stdout.print("nothing is wrong")


async def _check(
    url: str, indexer: Indexer, parameters: SearchParameters, extend: Extend
) -> Findings:
    store = open_store(url, indexer, parameters, now, extend)
    try:
        return await asyncio.to_thread(store.check)
    finally:
        await store.close()
