"""A stand-in for an insurer's FHIR endpoint: a real HTTP server that keeps what it is told.

    python -m adapters.insurer.stand_in --port 8091

`POST /fhir` takes transaction Bundles of conditional updates. `GET /received` says what it
has and how often it was told, `DELETE /received` begins anew, and
`POST /faults {"status": 503, "times": 2}` makes it refuse.
"""

from collections import Counter
from typing import Annotated, Any

import typer
import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import MalformedResource


class Faults(BaseModel):
    """The next `times` transactions are answered with `status`, and not kept."""

    status: int = Field(default=503, ge=400, le=599)
    times: int = Field(default=0, ge=0)


class Kept(BaseModel):
    """What was told, by conditional URL, and how many requests there were."""

    resources: dict[str, Any] = Field(default_factory=dict)
    told: Counter[str] = Field(default_factory=Counter)
    requests: int = 0


def create_app() -> FastAPI:
    app = FastAPI(title="Stand-in insurer")
    kept, current = Kept(), {"faults": Faults()}

    @app.post("/fhir")
    async def transact(request: Request) -> Response:
        kept.requests += 1
        faults = current["faults"]
        if faults.times:
            faults.times -= 1
            return _fhir({"resourceType": "OperationOutcome", "issue": []}, faults.status)
        try:
            bundle = resource_json.parse_resource(await request.body())
            entries = [(each["request"]["url"], each["resource"]) for each in bundle["entry"]]
        except (MalformedResource, KeyError, TypeError):
            return _fhir({"resourceType": "OperationOutcome", "issue": []}, 400)
        answers = []
        for url, resource in entries:
            status = "200 OK" if url in kept.resources else "201 Created"
            kept.resources[url] = resource
            kept.told[url] += 1
            answers.append({"response": {"status": status}})
        return _fhir(
            {"resourceType": "Bundle", "type": "transaction-response", "entry": answers}, 200
        )

    @app.get("/received")
    async def received() -> Response:
        said = {
            "resources": list(kept.resources.values()),
            "told": list(kept.told.values()),
            "requests": kept.requests,
        }
        return Response(resource_json.format(said), media_type="application/json")

    @app.delete("/received")
    async def forget() -> None:
        kept.resources, kept.told, kept.requests = {}, Counter(), 0

    @app.post("/faults")
    async def set_faults(wanted: Faults) -> Faults:
        current["faults"] = wanted
        return wanted

    return app


def _fhir(resource: Resource, status: int) -> Response:
    return Response(
        resource_json.format(resource), status_code=status, media_type="application/fhir+json"
    )


def main(
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8091,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
) -> None:
    """Run the stand-in insurer until it is told to stop."""
    uvicorn.run(
        create_app(),
        host=host,
        port=port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    typer.run(main)
