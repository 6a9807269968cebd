"""What export and import share: a store that must be there, patience, progress."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fhir_server.errors import StoreUnavailable
from fhir_server.settings import Settings
from fhir_server.store.open import sqlite_path

T = TypeVar("T")

_TRIES = 8
_LONGEST_WAIT = 10.0


def check_store_is_there(settings: Settings) -> None:
    """Refuse to make a store where one is to be read.

    Raises:
        ValueError: no store is there.
    """
    if settings.store.startswith("sqlite:"):
        path = sqlite_path(settings.store)
        if path is None or not path.exists():
            raise ValueError(f"there is no store at {path or 'a memory that is gone'}")


async def repeated(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` answers; a store that is away is asked again for about half a minute.

    Raises:
        StoreUnavailable: it stayed away.
    """
    for attempt in range(_TRIES - 1):
        try:
            return await ask()
        except StoreUnavailable:
            await asyncio.sleep(min(0.25 * 2.0**attempt, _LONGEST_WAIT))
    return await ask()


def progress_bar(console: Console, unit: str) -> Progress:
    """Progress on a terminal; nothing where nobody looks."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
