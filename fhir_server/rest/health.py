"""Whether the server lives, is ready, and what it counts: for operators.

Live: the process answers. Ready: a commit would work now, and this process is not about to
stop. A broken mapping does not make the server unready, its readings are kept in quarantine;
it is named so that someone mends it.
"""

import asyncio
from typing import Any

from prometheus_client.metrics_core import Metric
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fhir_server.core.mapping.catalog import BrokenMapping, MappingCatalog
from fhir_server.errors import FhirError
from fhir_server.interactions.context import Context
from fhir_server.operations.reprocess_quarantine import oldest_waiting
from fhir_server.rest import metrics
from fhir_server.rest.draining import Draining
from fhir_server.rest.metrics import OutboxGauges
from fhir_server.store.protocol import Store

_RETRY_AFTER = {"Retry-After": "5"}
# Seconds in which a probe wants its answer: a store that is away may take longer to say so.
_PATIENCE = 5.0


async def live(_request: Request) -> Response:
    return JSONResponse({"status": "live"})


async def ready(request: Request) -> Response:
    """200 with what is broken but bearable; 503 while no commit can be taken."""
    mappings: MappingCatalog = request.app.state.mappings
    draining: Draining = request.app.state.draining
    answer: dict[str, Any] = {
        "status": "ready",
        "mapping_faults": [str(fault) for fault in mappings.faults],
    }
    if draining.is_on:
        answer["status"] = "stopping"
    elif not await _is_ready(request.app.state.context.store):
        answer["status"] = "store-unavailable"
    if answer["status"] != "ready":
        return JSONResponse(answer, status_code=503, headers=_RETRY_AFTER)
    return JSONResponse(answer)


async def metrics_text(request: Request) -> Response:
    """What is counted, with the store and its outbox as they are now."""
    state = request.app.state
    mappings: MappingCatalog = state.mappings
    outbox: OutboxGauges = state.outbox_gauges
    families = (
        metrics.gauge(
            "fhir_server_store_up",
            "Whether a commit would work now (1) or not (0).",
            float(await _is_ready(state.context.store)),
        ),
        metrics.gauge(
            "fhir_server_mappings_broken",
            "Mappings that have faults and are not in use.",
            sum(isinstance(mappings.get(name), BrokenMapping) for name in mappings.names),
        ),
        *await outbox.read(),
        *await _quarantine_age(state.context),
    )
    text = await metrics.expose(families, request.headers.get("accept"))
    return Response(text.body, headers={"Content-Type": text.media_type})


async def _quarantine_age(ctx: Context) -> tuple[Metric, ...]:
    """How long the oldest quarantined reading waits; nothing while the store is away."""
    try:
        async with asyncio.timeout(_PATIENCE):
            oldest = await oldest_waiting(ctx)
    except (FhirError, TimeoutError):
        return ()
    waited = 0.0 if oldest is None else (ctx.now() - oldest).total_seconds()
    text = "Seconds since the oldest reading came that waits in quarantine; 0 if none does."
    return (metrics.gauge("fhir_server_quarantine_oldest_seconds", text, max(0.0, waited)),)


async def _is_ready(store: Store) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            return await store.is_ready()
    except TimeoutError:
        return False


def health_routes() -> list[BaseRoute]:
    return [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/metrics", metrics_text),
    ]
