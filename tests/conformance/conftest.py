"""A server on a real socket, and a client that speaks FHIR to it."""

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import uvicorn

from fhir_server.app import create_app
from fhir_server.rest.authenticator import Authenticator
from fhir_server.rest.connection import Connection
from fhir_server.settings import Settings
from tests.conformance.bundles import bundle
from tests.conformance.ward import Ward


class Server:
    """A running server: `url` is its root, `fhir` its FHIR base."""

    def __init__(
        self,
        authenticator: Authenticator | None = None,
        keep_alive_seconds: int = 75,
        **settings: Any,
    ) -> None:
        settings = {
            "store": "sqlite:///:memory:",
            "deliver": False,
            "auth": "none",
            # What was held back is tried again when a test says so.
            "placing_seconds": 0,
            **settings,
        }
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.fhir = f"{self.url}/fhir"
        self._app = create_app(Settings(**settings), authenticator=authenticator)
        config = uvicorn.Config(
            self._app,
            http=Connection,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            lifespan="on",
            timeout_keep_alive=keep_alive_seconds,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )

    def __enter__(self) -> "Server":
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RuntimeError("the server did not start")
            time.sleep(0.02)
        return self

    @property
    def outbox(self) -> Any:
        return self._app.state.context.outbox

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self.socket.close()


class Client:
    """Requests below the FHIR base; JSON bodies are sent as FHIR."""

    def __init__(self, server: Server) -> None:
        self.base = server.fhir
        self.session = requests.Session()

    def send(self, method: str, path: str, json: Any = None, **more: Any) -> requests.Response:
        headers = more.pop("headers", {})
        if json is not None:
            more["json"] = json
            headers = {"Content-Type": "application/fhir+json", **headers}
        url = path if path.startswith("http") else f"{self.base}/{path}"
        return self.session.request(method, url, headers=headers, timeout=30, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        return self.send("GET", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> requests.Response:
        return self.send("POST", path, json, **more)

    def put(self, path: str, json: Any = None, **more: Any) -> requests.Response:
        return self.send("PUT", path, json, **more)

    def delete(self, path: str, **more: Any) -> requests.Response:
        return self.send("DELETE", path, **more)

    def create(self, resource: dict[str, Any]) -> dict[str, Any]:
        """What was stored of `resource`."""
        response = self.post(resource["resourceType"], resource)
        assert response.status_code == 201, response.text
        return response.json()

    def issues(self, response: requests.Response) -> list[dict[str, Any]]:
        """The issues of an OperationOutcome."""
        outcome = response.json()
        assert outcome["resourceType"] == "OperationOutcome", outcome
        return outcome["issue"]

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """The Bundles of a search or history, by their next links."""
        following: str | None = path
        while following is not None:
            response = self.get(following)
            assert response.status_code == 200, response.text
            bundle = response.json()
            yield bundle
            links = {link["relation"]: link["url"] for link in bundle["link"]}
            following = links.get("next")

    def found(self, path: str, mode: str = "match") -> list[str]:
        """`Type/id` of what a search finds, over all pages."""
        return [
            f"{entry['resource']['resourceType']}/{entry['resource']['id']}"
            for bundle in self.pages(path)
            for entry in bundle.get("entry", ())
            if entry["search"]["mode"] == mode
        ]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> Client:
    return Client(server)


@pytest.fixture
def ward(server: Server) -> Ward:
    return Ward(server.url)


@pytest.fixture
def send(client):
    def send(*entries, kind="transaction", **headers):
        return client.post("", bundle(kind, *entries), headers=headers)

    return send


@pytest.fixture
def carry_out(send):
    def carry_out(*entries, kind="transaction", **headers):
        response = send(*entries, kind=kind, **headers)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["type"] == f"{kind}-response"
        assert len(answer.get("entry", ())) == len(entries)
        return answer.get("entry", [])

    return carry_out


@pytest.fixture
def unique() -> str:
    """A word that no other test uses."""
    return f"w{next(_numbers)}x{time.time_ns()}"


_numbers = itertools.count()
