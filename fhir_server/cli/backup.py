"""`fhir-server backup`: a copy of an SQLite store while servers use it."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fhir_server.cli import start_up
from fhir_server.cli.start_up import StartUpError
from fhir_server.store.open import sqlite_path
from fhir_server.store.security.open import security_path
from fhir_server.store.security.sqlite import copy_security
from fhir_server.store.sqlite.backup import Copy, copy

_stdout = Console(soft_wrap=True, highlight=False)
_stderr = Console(stderr=True, soft_wrap=True)


def backup(
    file: Annotated[Path, typer.Argument(help="Where the copy goes; it must not be there yet.")],
    store: Annotated[str | None, typer.Option(help="Overrides FHIR_SERVER_STORE.")] = None,
    security: Annotated[
        bool,
        typer.Option(
            "--security",
            help="Copy who may come in (security.db) instead, which no other copy has.",
        ),
    ] = False,
) -> None:
    """Copy an SQLite store as it is at one moment, while servers go on writing."""
    with start_up.told_in_one_line():
        settings = start_up.read_settings(**({} if store is None else {"store": store}))
        url = (settings.security_store if security else "") or settings.store
        if not url.startswith("sqlite:"):
            raise ValueError(
                "this copies SQLite stores; for MongoDB docs/operations.md says what to use"
            )
        path = (
            security_path(settings.security_store, settings.store) if security else sqlite_path(url)
        )
        if path is None:
            raise ValueError("a store in memory cannot be copied from outside")
        try:
            made = copy_security(path, file) if security else _copy(path, file)
        except FileExistsError as error:
            raise ValueError(str(error)) from None
        except OSError as error:
            raise StartUpError(f"{file}: {error.strerror}") from None
    told = "who may come in" if security else f"everything up to commit {made.sequence}"
    _stdout.print(f"{file}: {made.size / 1024**2:.1f} MiB, {told}, checked")


def _copy(path: Path, file: Path) -> Copy:
    with Progress(console=_stderr, transient=True, disable=not _stderr.is_terminal) as progress:
        task = progress.add_task("copying", total=None)
        return copy(
            path, file, lambda done, total: progress.update(task, completed=done, total=total)
        )
