"""`fhir-server deliveries`: the ledger of what went where, and what did not."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fhir_server.app import open_components
from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey, is_resource_id
from fhir_server.core.version import format_instant
from fhir_server.errors import FhirError
from fhir_server.outbox.ledger_check import LedgerCheck, check_ledger
from fhir_server.settings import Settings
from fhir_server.store.ledger import STOPPED
from fhir_server.store.protocol import Delivery, DeliveryState, Outbox

app = typer.Typer(help="What was delivered, what waits, what a person has to look at.")

_stdout = Console()
_stderr = Console(stderr=True)

_OPEN = (DeliveryState.QUEUED, DeliveryState.SENT, *STOPPED)
_PAGE = 1_000

StoreOption = Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")]
SinkOption = Annotated[str | None, typer.Option(help="Only this receiver's.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("list")
def list_deliveries(
    sink: SinkOption = None,
    state: Annotated[
        list[DeliveryState] | None,
        typer.Option(help="Repeatable. Default: all that is not done; with --patient, any."),
    ] = None,
    patient: Annotated[
        str | None, typer.Option(help="Only what is about this patient: an id, or Patient/id.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only what was queued since: a date, or a date and time.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    after: Annotated[int, typer.Option(help="The last number of the page before.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliveries by number, and how many there are of each state."""
    whom = None if patient is None else _patient(patient)
    states = tuple(state or (() if whom else _OPEN))
    with _outbox(store) as outbox:
        begin = None if since is None else _moment(since, store)
        found = outbox.list(sink, states, limit, after, patient=whom, since=begin)
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
    every: Annotated[
        bool, typer.Option("--all", help="Every parked, rejected or withheld delivery.")
    ] = False,
    sink: SinkOption = None,
    store: StoreOption = None,
) -> None:
    """Queue stopped deliveries again; those that a newer version overtook are closed."""
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
        _stderr.print("fhir-server: the others are not stopped, or were overtaken")
        raise typer.Exit(1)


@app.command()
def verify(
    sink: SinkOption = None,
    anchors: Annotated[
        Path | None,
        typer.Option(help="What --json printed before: the chains must still pass through it."),
    ] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Whether receipts are whole, and the ledger says what they say; 1 if not."""
    kept = _read_anchors(anchors) if anchors else {}
    with _outbox(store) as outbox:
        found = check_ledger(outbox, sink, kept)
    for name, head in found.heads.items():
        if as_json:
            line = {"sink": name, "receipts": head.number, "digest": head.digest}
            _stdout.print(json.dumps(line), markup=False, soft_wrap=True)
        else:
            text = f"{name}: {head.number} receipts, the last is {head.digest}"
            _stdout.print(text, highlight=False, soft_wrap=True)
    _tell_faults(found)


def _tell_faults(found: LedgerCheck) -> None:
    for fault in found.faults:
        _stderr.print(f"fhir-server: {fault}", style="red", markup=False, soft_wrap=True)
    if found.faults:
        raise typer.Exit(1)
    _stderr.print(f"{found.deliveries} deliveries agree with their receipts", highlight=False)


def _read_anchors(path: Path) -> dict[str, tuple[int, str]]:
    try:
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line]
        return {str(each["sink"]): (int(each["receipts"]), str(each["digest"])) for each in lines}
    except (OSError, ValueError, KeyError, TypeError):
        raise typer.BadParameter("it cannot be read", param_hint="--anchors") from None


def _patient(text: str) -> ResourceKey:
    resource_id = text.removeprefix("Patient/")
    if not is_resource_id(resource_id):
        raise typer.BadParameter("expected an id, or Patient/id", param_hint="--patient")
    return ResourceKey("Patient", resource_id)


def _moment(text: str, store: str | None) -> datetime:
    zone = (Settings() if store is None else Settings(store=store)).time_zone
    try:
        return date_range.to_datetime(date_range.parse(text, date_range.load_zone(zone)).start)
    except ValueError:
        raise typer.BadParameter(
            "expected 2024-05-01, or with a time", param_hint="--since"
        ) from None


def _parked(outbox: Outbox, sink: str | None) -> Iterator[int]:
    after = 0
    while page := outbox.list(sink, STOPPED, _PAGE, after):
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
