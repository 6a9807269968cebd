"""The websocket that Subscriptions are heard by.

https://hl7.org/fhir/R4/subscription.html#2.46.7.2
"""

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

from starlette.routing import BaseRoute, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from fhir_server.core.websocket_binding import PATH
from fhir_server.rest import metrics

FORBIDDEN = 1008


class _Sockets(Protocol):
    async def serve(self, socket: "_Socket") -> None: ...


async def subscriptions(websocket: WebSocket) -> None:
    """One client, until it goes."""
    origins = getattr(getattr(websocket.app.state, "settings", None), "cors_origins", ())
    if not _is_allowed(websocket, origins):
        # Before it is accepted, so the browser sees a 403.
        await websocket.close(FORBIDDEN)
        return
    await websocket.accept()
    sockets: _Sockets = websocket.app.state.sockets
    metrics.websockets.inc()
    try:
        await sockets.serve(_Socket(websocket))
    finally:
        metrics.websockets.dec()


def websocket_routes(prefix: str = "/fhir") -> list[BaseRoute]:
    return [WebSocketRoute(prefix + PATH, subscriptions)]


class _Socket:
    """What is served, on Starlette's WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def receive(self) -> str | None:
        try:
            message = await self._websocket.receive()
        except RuntimeError:  # closed from this side meanwhile
            return None
        if message["type"] == "websocket.disconnect":
            return None
        text: str | None = message.get("text")
        return "" if text is None else text

    async def send(self, text: str) -> None:
        await self._websocket.send_text(text)

    async def close(self, code: int) -> None:
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return
        try:
            await self._websocket.close(code)
        except (RuntimeError, WebSocketDisconnect):  # the client was quicker
            return


def _is_allowed(websocket: WebSocket, origins: Sequence[str]) -> bool:
    """A web page may come from the server itself or from where CORS lets it call.

    Browsers ask nobody before they open a websocket to another site.
    """
    origin = websocket.headers.get("origin")
    if origin is None or "*" in origins or origin in origins:
        return True
    return urlsplit(origin).netloc == websocket.headers.get("host")
