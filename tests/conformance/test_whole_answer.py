"""An answer written in one piece is, byte for byte, what uvicorn would have written."""

import socket
import threading
import time
from contextlib import ExitStack, contextmanager

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fhir_server.rest.connection import Connection

JSON = (b"content-type", b"application/fhir+json")
LARGE = b"x" * 100_000


def _length(body):
    return (b"content-length", str(len(body)).encode())


ANSWERS = {
    "/small": (200, [JSON, _length(b"{}")], [b"{}"]),
    "/large": (200, [JSON, _length(LARGE)], [LARGE]),
    "/empty": (200, [_length(b"")], [b""]),
    "/nothing": (204, [], [b""]),
    "/same": (304, [(b"etag", b'W/"1"')], [b""]),
    "/no-length": (200, [JSON], [b"{}"]),
    "/chunks": (200, [JSON], [b"{", b"}"]),
    "/parts": (200, [JSON, _length(b"{}")], [b"{", b"}"]),
    "/closing": (200, [_length(b"{}"), (b"connection", b"close")], [b"{}"]),
    "/created": (201, [(b"location", b"http://h/fhir/Patient/1"), _length(b"{}")], [b"{}"]),
    "/missing": (404, [JSON, _length(b"{}")], [b"{}"]),
    "/tab": (200, [(b"x-a", b"a\tb"), _length(b"{}")], [b"{}"]),
    "/split": (200, [(b"x-a", b"a\r\nx-b: c"), _length(b"{}")], [b"{}"]),
    "/control": (200, [(b"x-a", b"a\x00b"), _length(b"{}")], [b"{}"]),
    "/too-short": (200, [(b"content-length", b"5")], [b"{}"]),
    "/too-long": (200, [(b"content-length", b"1")], [b"{}"]),
}


async def _app(scope, receive, send):
    if scope["type"] != "http":
        return
    await receive()
    status, headers, parts = ANSWERS[scope["path"]]
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for number, part in enumerate(parts, 1):
        more = number < len(parts)
        await send({"type": "http.response.body", "body": part, "more_body": more})


@contextmanager
def _served(protocol):
    config = uvicorn.Config(
        _app, http=protocol, lifespan="off", log_level="critical", access_log=False,
        server_header=False, headers=[("x-of-the-server", "1")], date_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield bound.getsockname()
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(_served(each)) for each in (HttpToolsProtocol, Connection)]


def _answer(address, request):
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        got = b""
        while chunk := connection.recv(65_536):
            got += chunk
        return got


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("path", ANSWERS)
@pytest.mark.parametrize("how", ["HTTP/1.1", "HTTP/1.0", "HTTP/1.1 and close"])
def test_an_answer_is_what_uvicorn_would_have_written(servers, method, path, how):
    version, _, closing = how.partition(" and ")
    extra = "Connection: close\r\n" if closing else ""
    request = f"{method} {path} {version}\r\nHost: h\r\n{extra}Content-Length: 0\r\n\r\n".encode()
    # What is kept open goes on with those behind it.
    last = b"GET /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    both = [_answer(address, request * 2 + last) for address in servers]
    assert both[0] == both[1]
    if path == "/created" and how == "HTTP/1.1":
        assert both[1].count(b"HTTP/1.1 ") == 3
