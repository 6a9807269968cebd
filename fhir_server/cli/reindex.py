"""`fhir-server reindex`: index entries computed anew, after search parameters changed."""

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_server.app import now
from fhir_server.cli.start_up import read_settings, told_in_one_line
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.custom import SearchExtension
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.query import Clause, Query, TokenValue
from fhir_server.definitions import load
from fhir_server.settings import Settings
from fhir_server.store.open import OpenStore, open_store, sqlite_path

_stdout = Console(soft_wrap=True)
_stderr = Console(stderr=True, soft_wrap=True)

_PAGE = 500


def reindex(
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
) -> None:
    """Make the active SearchParameter resources live, and compute every index entry anew.

    Servers may run, and go on finding what they did until the end. Run it again if it was
    interrupted: it goes on where it was.
    """
    with told_in_one_line():
        settings = read_settings(**({} if store is None else {"store": store}))
        path = sqlite_path(settings.store) if settings.store.startswith("sqlite:") else None
        if path is not None and not path.exists():
            raise ValueError(f"there is no store at {path}")
        refused = asyncio.run(_reindex(settings))
    for line in refused:
        _stderr.print(line, style="red", markup=False, highlight=False)
    if refused:
        raise typer.Exit(1)


async def _reindex(settings: Settings) -> tuple[str, ...]:
    """What of the definitions cannot be used, in lines."""
    definitions = load(settings.mappings, settings.profiles, settings.terminology)
    extension = definitions.extension(settings.time_zone)
    indexer = Indexer(definitions.parameters, definitions.element_types, settings.time_zone)
    store = open_store(
        settings.store, indexer, definitions.parameters, now, extend=extension.extend
    )
    try:
        live, refused = await _find_live(store, extension)
        newest = (await store.extent()).newest
        with _progress() as progress:
            task = progress.add_task("versions", total=newest)
            await store.reindex(lambda done: progress.update(task, completed=done), live)
            progress.update(task, completed=newest)
    finally:
        await store.close()
    names = sorted({f"{p.resource_type}?{p.code}" for r in live for p in extension.read(r)})
    _stdout.print(f"{newest} versions; added parameters: {', '.join(names) or 'none'}")
    return refused


async def _find_live(
    store: OpenStore, extension: SearchExtension
) -> tuple[list[Resource], tuple[str, ...]]:
    """The active definitions that can be used, and what is wrong with the others."""
    status = extension.parameters.get("SearchParameter", "status")
    assert status is not None
    query = Query(
        "SearchParameter", (Clause(status, "", (TokenValue(None, "active"),)),), count=_PAGE
    )
    live: list[Resource] = []
    refused: list[str] = []
    while True:
        page = await store.search(query)
        for version in page.versions:
            resource = version.resource()
            faults = extension.faults(resource)
            if not faults:
                live.append(resource)
            refused += (f"{version.key}: {fault.diagnostics}" for fault in faults)
        if page.next is None:
            return live, tuple(refused)
        query = query._replace(after=page.next, as_of=page.as_of)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
        console=_stderr,
    )
