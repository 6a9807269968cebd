"""What is checked before a process serves: whatever is wrong is named in one line.

Exit code 2 for what the operator has set, 1 for what the machine or the store refuses.
"""

import errno
import os
import shutil
import socket
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfoNotFoundError

import typer
from pydantic import ValidationError
from rich.console import Console

from fhir_server.errors import FhirError, StoreUnavailable
from fhir_server.settings import CONFIG_VARIABLE, Settings
from fhir_server.store.open import sqlite_path

_PREFIX = "FHIR_SERVER_"
# What commands that speak to a server read from the environment.
_OF_COMMANDS = ("url", "token", "client_id", "client_key", "new_password")
_SHORT_OF_BYTES = 1024**3
_SHORT_OF_SHARE = 0.05

_stderr = Console(stderr=True, soft_wrap=True)


class StartUpError(Exception):
    """The machine refuses; the message is for the operator."""


@contextmanager
def told_in_one_line() -> Iterator[None]:
    """End the process with the reason, where one is known, instead of a traceback."""
    try:
        yield
    except (ValueError, FhirError, StartUpError) as error:
        tell(str(error))
        raise typer.Exit(2 if isinstance(error, ValueError) else 1) from None


def tell(reason: str) -> None:
    """What keeps the process from its work, in one line on stderr."""
    line = " ".join(reason.split())
    _stderr.print(f"fhir-server: {line}", style="red", markup=False, highlight=False)


def read_settings(**given: Any) -> Settings:
    """The settings; `given` are options of the command line.

    Raises:
        ValueError: one of them is wrong. It names which, never the value: a store's URL
            holds a password.
    """
    _check_file()
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = (_setting(fault["loc"]) + ": " + fault["msg"] for fault in error.errors())
        raise ValueError("; ".join(faults)) from None
    except ZoneInfoNotFoundError:
        raise ValueError(f"{_PREFIX}TIME_ZONE: there is no time zone data of that name") from None


def unknown_variables() -> tuple[str, ...]:
    """Variables of the environment that look like settings and are none: misspelt, perhaps."""
    known = {_PREFIX + name.upper() for name in (*Settings.model_fields, *_OF_COMMANDS)}
    known.add(CONFIG_VARIABLE)
    return tuple(sorted(n for n in os.environ if n.startswith(_PREFIX) and n not in known))


def check_store_folder(url: str) -> str:
    """Whether the file of an SQLite store can be written; a warning where space runs short.

    Other stores say for themselves what is wrong when they are opened.

    Raises:
        ValueError: `url` names no file.
        StartUpError: the file, or its folder, is not this user's to write.
    """
    path = sqlite_path(url) if url.startswith("sqlite:") else None
    if path is None:
        return ""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise StartUpError(f"the store's folder {folder} cannot be written by this user")
    if path.exists() and (path.is_dir() or not os.access(path, os.R_OK | os.W_OK)):
        raise StartUpError(f"the store's file {path} cannot be written by this user")
    usage = shutil.disk_usage(folder)
    if usage.free < min(_SHORT_OF_BYTES, usage.total * _SHORT_OF_SHARE):
        return f"the disk of {folder} is nearly full: {usage.free // 1024**2} MiB are left"
    return ""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet.

    Raises:
        StartUpError: another program has the port, or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise StartUpError(f"{host} is no address: {error.strerror}") from None
    family, kind, protocol, _, address = min(found, key=lambda f: f[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        reason = (
            "is taken by another program"
            if error.errno == errno.EADDRINUSE
            else f"cannot be used: {error.strerror}"
        )
        raise StartUpError(f"port {port} of {host} {reason}") from None
    bound.set_inheritable(True)
    return bound


def cannot_open(url: str, error: StoreUnavailable) -> StartUpError:
    """Which store could not be opened, told without the password that its URL may hold."""
    scheme, _, rest = url.partition("://")
    place = rest if scheme == "sqlite" else rest.rpartition("@")[2].partition("?")[0]
    return StartUpError(f"{scheme}://{place}: {error}")


def _check_file() -> None:
    name = os.environ.get(CONFIG_VARIABLE)
    if not name:
        return
    try:
        with Path(name).open("rb") as file:
            content = tomllib.load(file)
    except OSError as error:
        raise ValueError(f"{CONFIG_VARIABLE}: {name}: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{CONFIG_VARIABLE}: {name} is no TOML: {error}") from None
    unknown = sorted(set(content) - set(Settings.model_fields))
    if unknown:
        raise ValueError(f"{name}: no setting is called {', '.join(unknown)}")


def _setting(location: tuple[int | str, ...]) -> str:
    name, *inside = location or ("",)
    return _PREFIX + ".".join((str(name).upper(), *map(str, inside)))
