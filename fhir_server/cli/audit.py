"""`fhir-server audit`: the trail of accesses verified, pruned, and its newest link told."""

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from fhir_server.app import Components, open_components
from fhir_server.cli import start_up
from fhir_server.cli.moving import check_store_is_there, progress_bar
from fhir_server.core.security.audit_chain import format_link, parse_link
from fhir_server.core.security.audit_record import Asker
from fhir_server.operations import verify_trail

T = TypeVar("T")

app = typer.Typer(help="The audit trail.", no_args_is_help=True)
_stdout = Console(soft_wrap=True, highlight=False)
_stderr = Console(stderr=True, soft_wrap=True, highlight=False)

_Store = Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")]


def operator() -> Asker:
    """Whoever runs a command, as the machine knows them."""
    return Asker("operator", "fhir-server", getpass.getuser())


@app.command()
def verify(
    store: _Store = None,
    expect: Annotated[
        str | None, typer.Option(help="A link that `audit head` told: number:digest.")
    ] = None,
) -> None:
    """Tell whether a record was removed or changed; servers may run."""
    with start_up.told_in_one_line():
        expected = None if expect is None else parse_link(expect)
        with progress_bar(_stderr, "records") as progress:
            task = progress.add_task("records", total=None)
            found = _with(
                store,
                lambda opened: verify_trail.verify(
                    opened.store.trail,
                    expected,
                    lambda count: progress.update(task, completed=count),
                ),
            )
    for fault in found.faults:
        _stderr.print(fault, style="red", markup=False)
    _stdout.print(f"{found.records} records up to {format_link(found.newest)}", markup=False)
    if found.faults:
        raise typer.Exit(1)
    _stdout.print("nothing is wrong")


@app.command()
def head(store: _Store = None) -> None:
    """Tell the newest link of the chain, to be kept where the server cannot write."""
    with start_up.told_in_one_line():
        ends = _with(store, lambda opened: opened.store.trail.ends())
    _stdout.print(format_link(ends.newest), markup=False)


@app.command()
def rotate(
    key: Annotated[str, typer.Argument(help="The id of a key in FHIR_SERVER_AUDIT_KEYS.")],
    store: _Store = None,
) -> None:
    """Go on with another key, in every server; give it to all of them before."""
    with start_up.told_in_one_line():
        _with(store, lambda opened: verify_trail.rotate(opened.store.trail, key, operator()))
    _stdout.print(f"the audit trail goes on with the key {key}", markup=False)


@app.command()
def prune(
    keep_days: Annotated[int, typer.Option(min=1, help="Records of so many days are kept.")],
    store: _Store = None,
) -> None:
    """Remove old records; what is left can be verified, and says what was removed."""

    async def work(opened: Components) -> int:
        before = opened.context.now() - timedelta(days=keep_days)
        return await verify_trail.prune(opened.store.trail, before, operator())

    with start_up.told_in_one_line():
        count = _with(store, work)
    _stdout.print(f"{count} records removed")


def _with(store: str | None, work: Callable[[Components], Awaitable[T]]) -> T:
    """What `work` makes of an opened store, which is closed behind it."""
    settings = start_up.read_settings(**({} if store is None else {"store": store}))
    check_store_is_there(settings)

    async def run() -> T:
        components = open_components(settings)
        try:
            return await work(components)
        finally:
            await components.store.close()

    return asyncio.run(run())
