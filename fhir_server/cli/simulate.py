"""`fhir-server simulate`: patients with their devices, for days, with what real feeds do."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import requests
import typer
from requests.auth import AuthBase
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_server.app import now
from fhir_server.cli.server_access import (
    ClientIdOption,
    ClientKeyOption,
    TokenOption,
    access_to,
)
from fhir_server.cli.simulate_account import count_quarantined, verify
from fhir_server.cli.simulate_send import BrokerDoor, Door, ServerDoor, enrol
from fhir_server.simulation.devices import ZONE
from fhir_server.simulation.expectation import Sending
from fhir_server.simulation.ledger import Ledger, LedgerError
from fhir_server.simulation.ward import FAULTS, KINDS, Patient, Ward, enrolments, patients, sendings

_out = Console()
_err = Console(stderr=True, soft_wrap=True)

_RATES = {"silence": 0.2, "reassigned": 0.2}
_RATE = 0.02


def simulate(
    ledger: Annotated[Path, typer.Option(help="Where what is sent is written down.")],
    server: Annotated[
        str, typer.Option(envvar="FHIR_SERVER_URL", help="Where the server is, without /fhir.")
    ] = "http://127.0.0.1:8080",
    patients_: Annotated[int, typer.Option("--patients", min=1, help="Of each kind.")] = 5,
    days: Annotated[int, typer.Option(min=1)] = 7,
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Repeatable; of {', '.join(KINDS)}. Default: all.")
    ] = None,
    faults: Annotated[
        str, typer.Option(help=f"One rate, or name=rate,…; names: {', '.join(FAULTS)}.")
    ] = "",
    seed: Annotated[int, typer.Option(help="The same seed and start: the same payloads.")] = 1,
    start: Annotated[str, typer.Option(help="First day, 2026-03-01. Default: ends today.")] = "",
    speed: Annotated[
        int, typer.Option(min=0, help="Readings a minute; 0: as fast as they are taken.")
    ] = 0,
    connections: Annotated[int, typer.Option(min=1, max=64)] = 4,
    broker: Annotated[str, typer.Option(help="Send by MQTT: mqtt://user@host:port.")] = "",
    topic: Annotated[
        str, typer.Option(help="{mapping} and {device} are filled in.")
    ] = "devices/{mapping}/{device}",
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Account for everything at the end.")
    ] = True,
    verify_: Annotated[
        bool, typer.Option("--verify", help="Send nothing: account for what the ledger says.")
    ] = False,
    alerts: Annotated[
        bool, typer.Option("--alerts", help="Also: every alert that had to be raised, once.")
    ] = False,
    token: TokenOption = "",
    client_id: ClientIdOption = "",
    client_key: ClientKeyOption = None,
    gateway_key: Annotated[
        str,
        typer.Option(
            envvar="FHIR_SERVER_GATEWAY_KEY",
            help="Send readings by this; enrolments and accounts still need a client.",
        ),
    ] = "",
) -> None:
    """Enrol patients of each kind, send their days, and account for every reading."""
    try:
        auth = access_to(server, token, client_id, client_key)
        if not verify_:
            ward = _ward(seed, patients_, days, start, kind or list(KINDS), faults)
            sender = access_to(server, gateway_key, "", None) or auth
            door = _door(server, broker, topic, connections, sender)
            _run(ward, server, door, ledger, speed, auth)
        if (check or verify_) and not verify(server, ledger, alerts=alerts, show=_out, auth=auth):
            raise typer.Exit(1)
    except ValueError as error:
        _err.print(f"fhir-server: {error}", style="red", markup=False)
        raise typer.Exit(2) from None
    except (requests.RequestException, LedgerError, OSError) as error:
        _err.print(f"fhir-server: {error}", style="red", markup=False)
        raise typer.Exit(1) from None


def _ward(seed: int, number: int, days: int, start: str, kinds: list[str], faults: str) -> Ward:
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"no kind is called {', '.join(unknown)}; there are {', '.join(KINDS)}")
    if start:
        first = datetime.fromisoformat(start).replace(tzinfo=ZONE)
    else:
        today = now().astimezone(ZONE).replace(hour=0, minute=0, second=0, microsecond=0)
        first = today - timedelta(days=days)
    return Ward(seed, number, days, first, tuple(kinds), _rates(faults))


def _rates(text: str) -> dict[str, float]:
    if not text:
        return {name: _RATES.get(name, _RATE) for name in FAULTS}
    rates = {}
    for part in text.split(","):
        name, found, rate = part.rpartition("=")
        for one in (name,) if found else FAULTS:
            if one not in FAULTS:
                raise ValueError(f"no fault is called {one}; there are {', '.join(FAULTS)}")
            rates[one] = float(rate)
            if not 0 <= rates[one] <= 1:
                raise ValueError("a rate is from 0 to 1")
    return rates


def _door(server: str, broker: str, topic: str, connections: int, auth: AuthBase | None) -> Door:
    return BrokerDoor(broker, topic) if broker else ServerDoor(server, connections, auth)


def _run(
    ward: Ward, server: str, door: Door, path: Path, speed: int, auth: AuthBase | None
) -> None:
    kits = list(patients(ward))
    header = {**_header(ward), "quarantined": count_quarantined(server, auth)}
    with Ledger(path, header) as ledger, door, _progress() as progress:
        enrolling = progress.add_task("enrolled", total=len(kits))
        for kit in kits:
            for order in enrolments(ward, kit):
                enrol(server, order, auth)
            progress.advance(enrolling)
        days = _by_day(ward, kits)
        readings = sum(len(sending.expected) for day in days for sending in day)
        task = progress.add_task("readings", total=readings)
        begun = time.monotonic()
        done = 0
        verdicts: Counter[str] = Counter()
        for day in days:
            for sending, said in door.send(day):
                ledger.add(sending, said)
                verdicts.update(verdict for verdict, _ in said or ())
                done += len(sending.expected)
                progress.update(task, completed=done)
                if speed and (ahead := done * 60 / speed - (time.monotonic() - begun)) > 0:
                    time.sleep(ahead)
        seconds = time.monotonic() - begun
    _out.print(f"{done} readings in {seconds:.1f} s: {done * 60 / seconds:,.0f} a minute")
    for verdict, count in verdicts.most_common():
        _out.print(f"{count:>9}  {verdict}", highlight=False)


def _by_day(ward: Ward, kits: list[Patient]) -> list[list[Sending]]:
    """In the order of the days on which they are sent; made before the clock runs."""
    days: dict[int, list[Sending]] = {}
    for kit in kits:
        for sending in sendings(ward, kit):
            days.setdefault((sending.at - ward.start).days, []).append(sending)
    return [days[day] for day in sorted(days)]


def _header(ward: Ward) -> dict[str, Any]:
    return {
        **ward._asdict(),
        "start": ward.start.isoformat(),
        "made": now().astimezone(UTC).isoformat(),
    }


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=_err,
    )
