"""Readings over HTTP: raw payloads of devices in, verdicts out."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhir_server.core import resource_json
from fhir_server.core.mapping.catalog import BrokenMapping
from fhir_server.core.mapping.gateway import parse_gateway_id, parse_sent, parse_token
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.reading import Gateway, IdentifierToken
from fhir_server.errors import NotFound, UnsupportedMediaType
from fhir_server.interactions.context import Context
from fhir_server.operations.assignments import Assignments
from fhir_server.operations.ingest_readings import (
    ReadingResult,
    ReadPayload,
    ingest,
    read_parsed,
    read_payload,
)
from fhir_server.rest import quarantine
from fhir_server.rest.asking import BOM, Endpoint, answering, find_mapping, parameters
from fhir_server.rest.authorizing import authorized, check_intake
from fhir_server.rest.body import read_body
from fhir_server.rest.enrolments import send_enrolment
from fhir_server.rest.intake import Admission, Rates
from fhir_server.rest.metrics import count_readings
from fhir_server.rest.ndjson import Line, read_portions
from fhir_server.rest.request import decode_headers
from fhir_server.rest.verdicts import Verdicts

_JSON = ("application/json", "")
_NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")

# Stage one of a payload this long would hold up the other requests.
_LONG_PAYLOAD = 256 * 1024
# Payloads after which the loop looks at the other requests.
_PAYLOADS_A_TURN = 50


def readings_routes() -> list[BaseRoute]:
    """The routes of one application; they share what they know of assignments."""
    assignments = Assignments()
    return [
        _post("/readings/quarantine/reprocess", quarantine.Reprocessing(assignments).send),
        Route("/readings/quarantine", answering(quarantine.send_list), methods=["GET"]),
        _post("/readings/{mapping}", _Sending(assignments).send),
        _post("/enrolments/{mapping}", send_enrolment),
    ]


class _Sending:
    def __init__(self, assignments: Assignments) -> None:
        self._assignments = assignments
        self._rates = Rates()

    async def send(self, request: Request) -> Response:
        """One payload, or one a line; 200 when all of it was decided and is durable."""
        headers = decode_headers(request.scope)
        state = request.app.state
        given = await authorized(state, state.context, request.scope, headers)
        check_intake(given)
        # Assignments decide whose a reading is, and its sender need not see them.
        ctx: Context = state.context
        name = request.path_params["mapping"]
        mapping = _readings_mapping(request, name)
        admission = await self._rates.admit(request.scope.get("principal"), state.shared_rates)
        gateway = _gateway(request, headers, ctx.now())
        if admission.gateway_id and not gateway.gateway_id:
            gateway = gateway._replace(gateway_id=admission.gateway_id)
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        sender = _Sender(ctx, self._assignments, name, mapping, gateway, admission)
        if media_type in _JSON or media_type.endswith("+json"):
            body = await read_body(request.receive, headers, ctx.limits.body_bytes)
            return await sender.send_one(body.removeprefix(BOM).strip())
        if media_type in _NDJSON:
            return await sender.send_lines(request, headers)
        raise UnsupportedMediaType("readings are application/json or application/x-ndjson")


class _Sender:
    """What one request sends."""

    def __init__(
        self,
        ctx: Context,
        assignments: Assignments,
        name: str,
        mapping: Mapping | BrokenMapping,
        gateway: Gateway,
        admission: Admission,
    ) -> None:
        self._ctx = ctx
        self._assignments = assignments
        self._name = name
        self._mapping = mapping
        self._gateway = gateway
        self._admission = admission

    async def send_one(self, raw: bytes) -> Response:
        if len(raw) < _LONG_PAYLOAD:
            payload = self._read_one(raw)
        else:
            payload = await asyncio.to_thread(self._read_one, raw)
        verdicts = Verdicts()
        verdicts.add(await self._ingest([payload]))
        return verdicts.response()

    async def send_lines(self, request: Request, headers: dict[str, str]) -> Response:
        """Portion by portion: one is read while the one before commits.

        When a portion fails, those before it are durable; sent again they are duplicates.
        """
        verdicts = Verdicts()
        committing: asyncio.Task[tuple[ReadingResult, ...]] | None = None
        longest = self._ctx.limits.body_bytes
        try:
            async for portion in read_portions(request.receive, headers, longest):
                payloads = await self._read_lines(portion)
                if committing is not None:
                    verdicts.add(await committing)
                committing = asyncio.create_task(self._ingest(payloads))
            if committing is not None:
                verdicts.add(await committing)
        except BaseException:
            verdicts.close()
            if committing is not None:
                # Its outcome is told to nobody, but it must not be cut off either.
                await asyncio.gather(committing, return_exceptions=True)
            raise
        return verdicts.response()

    async def _read_lines(self, portion: Sequence[Line]) -> list[ReadPayload]:
        payloads = []
        for count, line in enumerate(portion, start=1):
            if len(line.text) < _LONG_PAYLOAD:
                payloads.append(read_payload(self._mapping, line.number, line.text, self._gateway))
            else:
                payloads.append(
                    await asyncio.to_thread(
                        read_payload, self._mapping, line.number, line.text, self._gateway
                    )
                )
            if count % _PAYLOADS_A_TURN == 0:
                await asyncio.sleep(0)
        return payloads

    def _read_one(self, raw: bytes) -> ReadPayload:
        """A body that is no JSON at all is the sender's fault, and told to it at once."""
        parsed = resource_json.parse(raw)
        return ReadPayload(0, raw, read_parsed(self._mapping, parsed, self._gateway))

    async def _ingest(self, payloads: Sequence[ReadPayload]) -> tuple[ReadingResult, ...]:
        payloads = self._admission.limit(payloads)
        results = await ingest(
            self._ctx, self._assignments, self._name, self._mapping, payloads, self._gateway
        )
        count_readings(self._name, Counter(result.verdict for result in results))
        return results


def _readings_mapping(request: Request, name: str) -> Mapping | BrokenMapping:
    mapping = find_mapping(request, name)
    if isinstance(mapping, Mapping) and mapping.is_enrolment:
        raise NotFound(f"{name} maps enrolments: POST /enrolments/{name}")
    return mapping


def _gateway(request: Request, headers: dict[str, str], received: datetime) -> Gateway:
    asked = dict(parameters(request, "device", "patient"))
    sent = headers.get("x-gateway-time")
    return Gateway(
        received=received,
        device=_parse_token(asked, "device"),
        patient=_parse_token(asked, "patient"),
        sent=None if sent is None else parse_sent(sent, "X-Gateway-Time"),
        gateway_id=parse_gateway_id(headers.get("x-gateway-id", "").strip(), "X-Gateway-Id"),
    )


def _parse_token(asked: dict[str, str], name: str) -> IdentifierToken | None:
    return parse_token(asked[name], name) if name in asked else None


def _post(path: str, endpoint: Endpoint) -> Route:
    return Route(path, answering(endpoint), methods=["POST"])
