"""`fhir-server registrations`: clients, accounts and gateways on their way to another store."""

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from fhir_server.cli.registry import StoreOption, registrations
from fhir_server.cli.start_up import StartUpError
from fhir_server.core.security.registration import (
    Account,
    Client,
    Gateway,
    from_document,
    name_of,
    to_document,
)
from fhir_server.security.registrations import Registrations

app = typer.Typer(
    help="Clients, accounts and gateways, moved to another store.", no_args_is_help=True
)
_out = Console(soft_wrap=True, highlight=False)

Registered = Client | Account | Gateway


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Where they go; it must not be there yet.")],
    store: StoreOption = None,
) -> None:
    """Write all registrations, revoked ones too: hashes of secrets, so keep the file as one."""
    with registrations(store) as found:
        kept: list[Registered] = [*found.list(Client), *found.list(Account), *found.list(Gateway)]
        lines = [
            msgspec.json.encode({"kind": type(each).__name__, "document": to_document(each)})
            for each in kept
        ]
        part = file.with_name(file.name + ".part")
        try:
            if file.exists():
                raise ValueError(f"{file} is there already")
            part.unlink(missing_ok=True)
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.writelines(line + b"\n" for line in lines)
                out.flush()
                os.fsync(out.fileno())
            part.rename(file)
        except OSError as error:
            raise StartUpError(f"{file}: {error.strerror}") from None
    _out.print(f"{file}: {len(lines)} registrations", markup=False)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `export` wrote.", exists=True)],
    store: StoreOption = None,
) -> None:
    """Register them here; what is here as it is there is passed over, so it may be repeated."""
    with registrations(store) as found:
        wanted = [_read(line, number) for number, line in enumerate(_lines(file), 1)]
        there = [(each, _own(found, each)) for each in wanted]
        if other := [name_of(each) for each, own in there if own is not None and own != each]:
            raise ValueError(f"registered here as something else: {', '.join(other)}")
        new = [each for each, own in there if own is None]
        for each in new:
            found.add(each)
    _out.print(f"{len(new)} registered, {len(wanted) - len(new)} were there", markup=False)


def _lines(file: Path) -> list[bytes]:
    try:
        return file.read_bytes().splitlines()
    except OSError as error:
        raise StartUpError(f"{file}: {error.strerror}") from None


def _own(found: Registrations, wanted: Registered) -> Registered | None:
    """What is registered here by that name."""
    match wanted:
        case Client():
            return found.find(Client, wanted.client_id)
        case Account():
            return found.find(Account, wanted.name)
    return found.find(Gateway, wanted.name)


def _read(line: bytes, number: int) -> Registered:
    try:
        said: Any = msgspec.json.decode(line)
        match said["kind"]:
            case "Client":
                return from_document(Client, said["document"])
            case "Account":
                return from_document(Account, said["document"])
            case "Gateway":
                return from_document(Gateway, said["document"])
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        # Not the line itself: it may hold a hash.
        raise ValueError(f"line {number} is no registration that `export` wrote") from None
    raise ValueError(f"line {number} is of another kind than this release knows")
