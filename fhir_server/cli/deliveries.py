"""`fhir-server deliveries`: the ledger of what went where, and what did not."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fhir_server.app import open_components
from fhir_server.core.version import format_instant
from fhir_server.errors import FhirError
from fhir_server.settings import Settings
from fhir_server.store.protocol import Delivery, DeliveryState, Outbox

app = typer.Typer(help="What was delivered, what waits, what a person has to look at.")

_stdout = Console()
_stderr = Console(stderr=True)

_OPEN = (DeliveryState.QUEUED, DeliveryState.SENT, DeliveryState.PARKED)
_PAGE = 1_000

StoreOption = Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")]
SinkOption = Annotated[str | None, typer.Option(help="Only this receiver's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("list")
def list_deliveries(
    sink: SinkOption = None,
    state: Annotated[
        list[DeliveryState] | None,
        typer.Option(help="Repeatable. Default: queued, sent and parked."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    after: Annotated[int, typer.Option(help="The last number of the page before.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliveries by number, and how many there are of each state."""
    with _outbox(store) as outbox:
        found = outbox.list(sink, tuple(state or _OPEN), limit, after)
        counts = outbox.counts()
    if as_json:
        for delivery in found:
            _stdout.print(json.dumps(_as_dict(delivery)), markup=False, soft_wrap=True)
        return
    if found:
        _stdout.print(_table(found))
    for (name, counted), number in sorted(counts.items()):
        if sink in (None, name):
            _stdout.print(f"{name}: {number} {counted}", highlight=False)
    if not counts:
        _stdout.print("no deliveries")


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="The delivery's number.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """One delivery with all that happened to it."""
    with _outbox(store) as outbox:
        shown = outbox.show(number)
    if shown is None:
        _stderr.print(f"fhir-server: there is no delivery {number}", style="red")
        raise typer.Exit(1)
    delivery, events = shown
    history = [{"at": _at(e.at), "state": e.state.value, "detail": e.detail} for e in events]
    if as_json:
        _stdout.print(
            json.dumps({**_as_dict(delivery), "history": history}), markup=False, soft_wrap=True
        )
        return
    for name, value in _as_dict(delivery).items():
        _stdout.print(f"{name:>12}  {value}", markup=False, highlight=False, soft_wrap=True)
    table = Table("at", "state", "detail", box=None)
    for event in history:
        table.add_row(*event.values())
    _stdout.print(table)


@app.command()
def retry(
    numbers: Annotated[list[int] | None, typer.Argument(help="Deliveries by number.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every parked delivery.")] = False,
    sink: SinkOption = None,
    store: StoreOption = None,
) -> None:
    """Queue parked deliveries again; those that a newer version overtook are closed."""
    if bool(numbers) == every or (sink is not None and not every):
        raise typer.BadParameter("name deliveries, or --all (of one --sink)")
    with _outbox(store) as outbox:
        if numbers:
            wanted = tuple(dict.fromkeys(numbers))
            queued = outbox.retry(wanted)
        else:
            wanted = tuple(_parked(outbox, sink))
            queued = sum(
                outbox.retry(wanted[start : start + _PAGE])
                for start in range(0, len(wanted), _PAGE)
            )
    _stdout.print(f"{queued} of {len(wanted)} queued again")
    if numbers and queued < len(wanted):
        _stderr.print("fhir-server: the others are not parked, or were overtaken")
        raise typer.Exit(1)


def _parked(outbox: Outbox, sink: str | None) -> Iterator[int]:
    after = 0
    while page := outbox.list(sink, (DeliveryState.PARKED,), _PAGE, after):
        yield from (delivery.delivery_id for delivery in page)
        after = page[-1].delivery_id


@contextmanager
def _outbox(store: str | None) -> Iterator[Outbox]:
    try:
        components = open_components(Settings() if store is None else Settings(store=store))
    except (ValueError, FhirError) as error:
        _stderr.print(f"fhir-server: {error}", style="red", markup=False)
        raise typer.Exit(1 if isinstance(error, FhirError) else 2) from None
    try:
        yield components.store.outbox
    except FhirError as error:
        _stderr.print(f"fhir-server: {error}", style="red", markup=False)
        raise typer.Exit(1) from None
    finally:
        asyncio.run(components.store.close())


def _table(deliveries: tuple[Delivery, ...]) -> Table:
    table = Table("number", "receiver", "resource", "state", "attempts", "due", "reason", box=None)
    for each in deliveries:
        table.add_row(
            str(each.delivery_id),
            each.sink,
            f"{each.key}/_history/{each.version_id}",
            each.state.value,
            str(each.attempts),
            _at(each.due) if each.state is DeliveryState.QUEUED else "",
            each.reason,
        )
    return table


def _as_dict(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery": delivery.delivery_id,
        "sink": delivery.sink,
        "resource": str(delivery.key),
        "version": delivery.version_id,
        "sequence": delivery.sequence,
        "group": delivery.group,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "queued": _at(delivery.queued_at),
        "changed": _at(delivery.changed_at),
        "due": _at(delivery.due),
        "reason": delivery.reason,
        "receipt": delivery.receipt,
    }


def _at(when: datetime) -> str:
    return format_instant(when)
