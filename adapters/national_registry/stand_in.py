"""A stand-in for a regional registry: a real HTTP server that fails on demand.

    python -m adapters.national_registry.stand_in --port 8090 --journal registry.db

`POST /fhir` takes transaction Bundles with conditional creates and updates by identifier.
`GET /fhir/Observation?identifier=system|value` and `GET /counts` say what is there.
`POST /faults {"kind": "store-then-cut", "times": 3}` makes the next three transactions fail.
`store-then-later` answers 202 and, after `seconds`, at the status URL; `store-then-lose`
answers 202 and then knows nothing of it. Documents: `documents/stand_in.py`.
"""

import asyncio
import logging
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import typer
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adapters.national_registry.documents.stand_in import Callback, DocumentJournal, add_routes
from adapters.national_registry.stand_in_journal import (
    Journal,
    TransactionError,
    operation_outcome,
    parse_token,
)
from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import MalformedResource


class Fault(StrEnum):
    """What goes wrong with a transaction. `store-` faults happen after it was committed."""

    NONE = "none"
    ERROR = "error"
    RATE_LIMIT = "rate-limit"
    REJECT = "reject"
    HANG = "hang"
    CUT = "cut"
    STORE_THEN_ERROR = "store-then-error"
    STORE_THEN_HANG = "store-then-hang"
    STORE_THEN_CUT = "store-then-cut"
    STORE_THEN_HALF_ANSWER = "store-then-half-answer"
    STORE_THEN_LATER = "store-then-later"
    STORE_THEN_LOSE = "store-then-lose"

    @property
    def is_after_store(self) -> bool:
        return self.value.startswith("store-")


class Faults(BaseModel):
    """The fault of the next `times` transactions (None: all), or of every `every`-th one.

    `seconds`: how long it hangs, or what `Retry-After` says.
    """

    kind: Fault = Fault.NONE
    times: int | None = Field(default=None, ge=0)
    every: int = Field(default=1, ge=1)
    seconds: float = Field(default=600.0, ge=0)
    seen: int = 0

    def next(self) -> Fault:
        """The fault of this transaction."""
        self.seen += 1
        if self.kind is Fault.NONE or self.times == 0 or self.seen % self.every:
            return Fault.NONE
        if self.times is not None:
            self.times -= 1
        return self.kind


class _CuttableProtocol(HttpToolsProtocol):
    """Lets the application cut the connection under a request."""

    by_client: ClassVar[dict[tuple[str, int], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.client is not None:
            self.by_client[self.client] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.client is not None:
            self.by_client.pop(self.client, None)
        super().connection_lost(exc)

    @classmethod
    def cut(cls, request: Request, first: bytes = b"") -> None:
        """Send `first`, then no more."""
        client = request.client
        transport = cls.by_client.get((client.host, client.port)) if client else None
        if transport is not None:
            transport.write(first)
            transport.close()


def create_app(journal: Journal, faults: Faults) -> FastAPI:
    """The registry's routes over one journal."""
    app = FastAPI(title="Stand-in registry")
    current = {"faults": faults}

    @app.post("/fhir")
    async def transact(request: Request) -> Response:
        fault, seconds = current["faults"].next(), current["faults"].seconds
        key = request.headers.get("idempotency-key", "")
        try:
            bundle = resource_json.parse_resource(await request.body())
            entries = _check_transaction(bundle)
        except (MalformedResource, TransactionError):
            return _fhir(operation_outcome("invalid", "Bundle"), 400)
        if fault is not Fault.NONE and not fault.is_after_store:
            journal.note_request(key, entries, fault, "not stored")
            return await _fail(request, fault, seconds, b"")
        try:
            results = journal.transact(bundle)
        except TransactionError as refused:
            journal.note_request(key, entries, fault, "refused")
            return _fhir(refused.outcome, refused.status)
        journal.note_request(key, entries, fault, "stored")
        response = _fhir(
            {
                "resourceType": "Bundle",
                "type": "transaction-response",
                "entry": [
                    {"response": {"status": each.status, "location": each.location}}
                    for each in results
                ],
            },
            200,
        )
        if fault in (Fault.STORE_THEN_LATER, Fault.STORE_THEN_LOSE):
            is_lost = fault is Fault.STORE_THEN_LOSE
            kept = (b"", 0.0) if is_lost else (bytes(response.body), seconds)
            number = journal.keep_answer(*kept)
            headers = {"Content-Location": f"/answers/{number}", "Retry-After": "0"}
            return Response(status_code=202, headers=headers)
        if fault is not Fault.NONE:
            return await _fail(request, fault, seconds, bytes(response.body))
        return response

    @app.get("/answers/{number}")
    async def answer(number: int) -> Response:
        kept = journal.answer(number)
        if kept is None:
            return Response(status_code=202, headers={"Retry-After": "0"})
        if not kept:
            return _fhir(operation_outcome("not-found", "Bundle"), 404)
        return Response(kept, media_type="application/fhir+json")

    @app.get("/fhir/{resource_type}")
    async def search(
        resource_type: str, identifier: str | None = None, _count: int = 1000
    ) -> Response:
        found = (
            journal.all(resource_type, _count)
            if identifier is None
            else journal.find(resource_type, *parse_token(identifier))
        )
        entries = [{"resource": resource, "search": {"mode": "match"}} for resource in found]
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
        return _fhir({**bundle, **({"entry": entries} if entries else {})}, 200)

    @app.get("/fhir/{resource_type}/{resource_id}")
    async def read(resource_type: str, resource_id: str) -> Response:
        resource = journal.read(resource_type, resource_id)
        if resource is None:
            return _fhir(operation_outcome("not-found", resource_type), 404)
        return _fhir(resource, 200)

    @app.get("/counts")
    async def counts() -> dict[str, Any]:
        return journal.counts()

    @app.get("/requests")
    async def requests() -> list[dict[str, Any]]:
        return journal.requests()

    @app.post("/faults")
    async def set_faults(wanted: Faults) -> Faults:
        current["faults"] = wanted
        return wanted

    return app


def _check_transaction(bundle: Resource) -> int:
    """The number of entries.

    Raises:
        TransactionError: it is no transaction, or an entry lacks its request or resource.
    """
    entries = bundle.get("entry") or []
    is_transaction = bundle["resourceType"] == "Bundle" and bundle.get("type") == "transaction"
    if not is_transaction or not all(
        isinstance(entry.get("resource"), dict) and "method" in (entry.get("request") or {})
        for entry in entries
    ):
        raise TransactionError(400, "invalid")
    return len(entries)


async def _fail(request: Request, fault: Fault, seconds: float, answer: bytes) -> Response:
    if fault in (Fault.ERROR, Fault.STORE_THEN_ERROR):
        return _fhir(operation_outcome("exception", "Bundle"), 500)
    if fault is Fault.RATE_LIMIT:
        headers = {"Retry-After": str(round(min(seconds, 60)))}
        return _fhir(operation_outcome("throttled", "Bundle"), 429, headers)
    if fault is Fault.REJECT:
        return _fhir(operation_outcome("business-rule", "Bundle.entry[0].resource"), 422)
    if fault in (Fault.HANG, Fault.STORE_THEN_HANG):
        await asyncio.sleep(seconds)
    half = b""
    if fault is Fault.STORE_THEN_HALF_ANSWER:
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(answer)}\r\n\r\n"
        half = head.encode() + answer[: len(answer) // 2]
    _CuttableProtocol.cut(request, half)
    return Response(status_code=503)


def _fhir(resource: Resource, status: int, headers: dict[str, str] | None = None) -> Response:
    return Response(
        resource_json.format(resource),
        status_code=status,
        headers=headers,
        media_type="application/fhir+json",
    )


def _parse_fault(text: str) -> Faults:
    kind, _, times = text.partition(":")
    return Faults(kind=Fault(kind), times=int(times) if times else None)


def main(
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8090,
    journal: Annotated[Path, typer.Option(help="SQLite file of what was received.")] = Path(
        "registry.db"
    ),
    fault: Annotated[str, typer.Option(help="KIND or KIND:TIMES, see POST /faults.")] = "none",
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    log_level: Annotated[Literal["info", "warning", "error"], typer.Option()] = "warning",
    callback: Annotated[str, typer.Option(help="Where documents are fetched and told of.")] = "",
    callback_token: Annotated[str, typer.Option(help="What to show there.")] = "",
    signer_ca: Annotated[
        Path | None, typer.Option(help="Check signatures against these certificates.")
    ] = None,
) -> None:
    """Run the stand-in registry until it is told to stop."""
    try:
        faults = _parse_fault(fault)
    except ValueError:
        raise typer.BadParameter("KIND or KIND:TIMES", param_hint="--fault") from None
    opened = Journal(journal)
    documents = DocumentJournal(journal)
    app = create_app(opened, faults)
    add_routes(app, documents, Callback(callback, callback_token, signer_ca))
    logging.getLogger("uvicorn.error").setLevel(log_level.upper())
    try:
        uvicorn.run(
            app,
            host=host,
            port=port,
            http=_CuttableProtocol,
            access_log=False,
            log_level=log_level,
            timeout_graceful_shutdown=1,
        )
    finally:
        documents.close()
        opened.close()


if __name__ == "__main__":
    typer.run(main)
