"""`fhir-server gateways`: what may hand in readings, and which."""

from dataclasses import replace
from datetime import timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fhir_server.cli.registry import StoreOption, registrations
from fhir_server.core.security.registration import Gateway

app = typer.Typer(help="Gateways: keys that let readings in, and nothing else.")

_out = Console(soft_wrap=True, highlight=False)

Name = Annotated[str, typer.Argument(help="The gateway's name: letters, digits, - and _.")]
Mappings = Annotated[
    list[str] | None, typer.Option("--mapping", help="It sends payloads of; repeatable. Any.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option("--device", help="system|value, system| for all, |value; repeatable. Any."),
]
PerMinute = Annotated[
    int | None, typer.Option(min=1, help="Readings it may send a minute. No limit.")
]


@app.command()
def add(
    name: Name,
    mapping: Mappings = None,
    device: Devices = None,
    per_minute: PerMinute = None,
    store: StoreOption = None,
) -> None:
    """Register a gateway and show its key, this once."""
    with registrations(store) as found:
        _check_devices(device or [])
        gateway = Gateway(
            name=name,
            mappings=tuple(mapping or ()),
            devices=tuple(device or ()),
            per_minute=per_minute,
        )
        found.add(gateway)
        _show(found.renew_gateway_key(name))


@app.command("list")
def list_(store: StoreOption = None) -> None:
    """Which there are."""
    with registrations(store) as found:
        table = Table("gateway", "mappings", "devices", "a minute", "keys", "state")
        for each in found.list(Gateway):
            table.add_row(
                each.name,
                " ".join(each.mappings) or "any",
                " ".join(each.devices) or "any",
                str(each.per_minute or "any"),
                str(len(each.keys)),
                "active" if each.is_active else "revoked",
            )
        _out.print(table)


@app.command()
def bind(
    name: Name,
    mapping: Mappings = None,
    device: Devices = None,
    per_minute: PerMinute = None,
    store: StoreOption = None,
) -> None:
    """Say anew what it may send; what is not given is any."""
    with registrations(store) as found:
        _check_devices(device or [])
        mappings, devices = tuple(mapping or ()), tuple(device or ())

        def turn(gateway: Gateway) -> Gateway:
            return replace(gateway, mappings=mappings, devices=devices, per_minute=per_minute)

        found.change(Gateway, name, turn)


@app.command()
def revoke(name: Name, store: StoreOption = None) -> None:
    """Let it in no more; heeded by the next request of every process."""
    with registrations(store) as found:
        found.revoke(Gateway, name)
        _out.print(f"{name} is revoked", markup=False)


@app.command()
def rotate(
    name: Name,
    overlap_minutes: Annotated[
        int, typer.Option(min=0, help="How long the old key is good beside the new one.")
    ] = 0,
    store: StoreOption = None,
) -> None:
    """Give it another key, shown this once."""
    with registrations(store) as found:
        _show(found.renew_gateway_key(name, timedelta(minutes=overlap_minutes)))


def _check_devices(devices: list[str]) -> None:
    for each in devices:
        system, mark, value = each.partition("|")
        if not mark or not (system or value):
            raise ValueError("--device: system|value, system| for all of it, or |value")


def _show(key: str) -> None:
    _out.print(f"its key, shown this once: {key}", markup=False)
