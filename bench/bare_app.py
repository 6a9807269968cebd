"""The yardstick: bare FastAPI routes that parse JSON and return it, and store nothing."""

from typing import Any

from fastapi import FastAPI, Request, Response

app = FastAPI()


class _Kept:
    body: Any = None
    text: bytes = b""


@app.post("/echo", status_code=201)
async def echo(resource: dict[str, Any]) -> dict[str, Any]:
    return resource


@app.put("/kept")
async def keep(request: Request) -> dict[str, Any]:
    _Kept.body = await request.json()
    _Kept.text = await request.body()
    return {}


@app.get("/kept/{key}")
async def kept(key: str) -> Any:
    """Returns a JSON body as a route that reads nothing would."""
    return _Kept.body


@app.get("/bytes/{key}")
async def as_bytes(key: str) -> Response:
    """The same without serializing: the fastest a FastAPI route can be."""
    return Response(_Kept.text, media_type="application/json")
