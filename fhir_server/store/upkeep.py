"""What a store needs done now and then while it is served."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from fhir_server.errors import FhirError
from fhir_server.store.open import OpenStore

_log = logging.getLogger(__name__)

# How long a page link lives: index rows of superseded versions are kept as long (ADR 0003).
PAGE_LIFE = timedelta(hours=1)
_EVERY_SECONDS = 300.0


async def keep_purged(store: OpenStore, now: Callable[[], datetime]) -> None:
    """Remove what only expired page links could need, until cancelled.

    Any number of processes may do it for one store.
    """
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        try:
            await store.purge(now() - PAGE_LIFE)
        except FhirError as error:
            _log.warning("old index rows were not removed: %s", error)
