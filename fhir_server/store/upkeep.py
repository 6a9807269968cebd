"""What a store needs done now and then while it is served."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from fhir_server.core.search.custom import SearchDefinitions
from fhir_server.errors import FhirError
from fhir_server.store.open import OpenStore

_log = logging.getLogger(__name__)

# How long a page link lives: index rows of superseded versions are kept as long (ADR 0003).
PAGE_LIFE = timedelta(hours=1)
_EVERY_SECONDS = 300.0
# How long after a reindex a process may still search by the parameters of before.
_LOOK_SECONDS = 1.0


async def adopt_definitions(store: OpenStore, adopt: Callable[[SearchDefinitions], None]) -> None:
    """Hand the search definitions to `adopt` if they are others than it was given last."""
    try:
        if await store.refresh():
            adopt(store.definitions)
    except FhirError as error:
        _log.warning("the search parameters were not looked at: %s", error)


async def follow_definitions(store: OpenStore, adopt: Callable[[SearchDefinitions], None]) -> None:
    """Notice a reindex of another process, until cancelled."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        await adopt_definitions(store, adopt)


async def _hold_nothing() -> None:
    return None


async def keep_purged(
    store: OpenStore,
    now: Callable[[], datetime],
    find_hold: Callable[[], Awaitable[datetime | None]] = _hold_nothing,
) -> None:
    """Remove what only expired page links could need, until cancelled.

    `find_hold` says from when on something longer than a page link still reads, if it does.
    Any number of processes may do it for one store.
    """
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        try:
            hold = await find_hold()
            oldest = now() - PAGE_LIFE
            await store.purge(oldest if hold is None else min(oldest, hold))
        except FhirError as error:
            _log.warning("old index rows were not removed: %s", error)
