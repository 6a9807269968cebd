"""Bulk exports composed: where they are kept, and what makes them beside the requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

from fhir_server.interactions.authorize import Authorizer
from fhir_server.interactions.context import Context
from fhir_server.operations.export_steps import ExportSteps
from fhir_server.operations.keep_exports import Exporter
from fhir_server.settings import Settings
from fhir_server.store.exports.open import open_export_store
from fhir_server.store.exports.protocol import ExportStore
from fhir_server.store.open import OpenStore


def open_exports(settings: Settings) -> ExportStore:
    """Where the settings want them; nothing is made before the first.

    Raises:
        ValueError: a setting is wrong.
    """
    return open_export_store(settings.export_folder, settings.store)


class Exporting:
    """The exports of one application, whose `state` has its context of now and its journal."""

    def __init__(
        self,
        settings: Settings,
        store: OpenStore,
        authorizer: Authorizer,
        state: Any,
    ) -> None:
        ctx: Context = state.context
        self._exports = ctx.exports or open_exports(settings)
        steps = ExportSteps(store, lambda: state.context, authorizer, state.audit_journal)
        kept = timedelta(hours=settings.export_hours)
        self._exporter = Exporter(self._exports, steps, ctx.now, ctx.new_id(), kept)
        self.find_hold = self._exporter.find_hold

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Jobs are worked at inside of this; what is in hand at its end is given back."""
        keeping = asyncio.create_task(self._exporter.keep())
        try:
            yield
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping
            await asyncio.to_thread(self._exports.close)
