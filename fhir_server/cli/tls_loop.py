"""TlsLoop: an event loop that does not wait long for the goodbye of a TLS client."""

import asyncio
from typing import Any, cast

import uvloop

# Most clients just go. Each connection would be kept for half a minute after that, and a
# server that stops would wait for them all.
_GOODBYE_SECONDS = 1.0


class TlsLoop(uvloop.Loop):
    """For a server that speaks https itself."""

    async def create_server(self, *args: Any, ssl: Any = None, **more: Any) -> asyncio.Server:
        if ssl is not None:
            more.setdefault("ssl_shutdown_timeout", _GOODBYE_SECONDS)
        return cast(asyncio.Server, await super().create_server(*args, ssl=ssl, **more))


def new_loop() -> TlsLoop:
    return TlsLoop()
