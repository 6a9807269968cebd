"""The yardstick: bare FastAPI routes that parse JSON and return it, and store nothing."""

from typing import Any

from fastapi import FastAPI, Request, Response

app = FastAPI()
_kept: dict[str, Any] = {"body": {}, "bytes": b""}


@app.post("/echo", status_code=201)
async def echo(resource: dict[str, Any]) -> dict[str, Any]:
    return resource


@app.put("/kept")
async def keep(request: Request) -> dict[str, Any]:
    _kept["body"] = await request.json()
    _kept["bytes"] = await request.body()
    return {}


@app.get("/kept/{key}")
async def kept(key: str) -> dict[str, Any]:
    """Returns a JSON body as a route that reads nothing would."""
    return _kept["body"]


@app.get("/bytes/{key}")
async def as_bytes(key: str) -> Response:
    """The same without serializing: the fastest a FastAPI route can be."""
    return Response(_kept["bytes"], media_type="application/json")
