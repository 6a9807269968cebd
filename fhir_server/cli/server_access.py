"""How commands that speak to a server show who they are: a token, or a key that gets them."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Annotated

import requests
import typer
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from requests.auth import AuthBase

from fhir_server.app import now
from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.credentials import ClientCredentials, SigningKey
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.session import OutboundSession, Timeouts

TokenOption = Annotated[
    str, typer.Option("--token", envvar="FHIR_SERVER_TOKEN", help="A token, or a gateway's key.")
]
ClientIdOption = Annotated[
    str, typer.Option("--client-id", envvar="FHIR_SERVER_CLIENT_ID", help="Get tokens as it.")
]
ClientKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--client-key", envvar="FHIR_SERVER_CLIENT_KEY", help="File of its private key, JWK or PEM."
    ),
]

_SCOPE = "system/*.cruds"
_TIMEOUT = 10


class AccessError(requests.RequestException):
    """No token could be had; the message is for the person at the keyboard."""


def access_to(server: str, token: str, client_id: str, client_key: Path | None) -> AuthBase | None:
    """What a session is given as its `auth`; None is to say nothing.

    Raises:
        ValueError: the options do not belong together, or the key is none.
    """
    if bool(client_id) != (client_key is not None) or (token and client_id):
        raise ValueError("--token, or --client-id with --client-key")
    if token:
        return _Token(token)
    if client_key is not None:
        return _Client(server, client_id, client_key, now)
    return None


class _Token(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Client(AuthBase):
    """A backend service. Its tokens last minutes, so they are had again and again."""

    def __init__(
        self, server: str, client_id: str, key: Path, clock: Callable[[], datetime]
    ) -> None:
        self._base_url = f"{server.rstrip('/')}/fhir"
        algorithm, key_id = _describe(key)
        self._proof = SigningKey(client_id, key, algorithm, key_id)
        self._clock = clock
        self._lock = Lock()
        self._credentials: ClientCredentials | None = None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._open()
                request.headers.update(self._credentials.headers())
        except DeliveryDeferred as error:
            raise AccessError(f"no token: {error}") from None
        return request

    def _open(self) -> ClientCredentials:
        url = f"{self._base_url}/.well-known/smart-configuration"
        try:
            said = requests.get(url, timeout=_TIMEOUT)
            token_url = said.json()["token_endpoint"] if said.ok else ""
        except (ValueError, KeyError, TypeError):
            token_url = ""
        if not isinstance(token_url, str) or not token_url:
            raise AccessError(f"{url} does not say where tokens are had")
        # Where it goes the person at the keyboard has said.
        session = OutboundSession(OutboundPolicy(allow_private=True), Timeouts())
        return ClientCredentials(session, token_url, self._proof, _SCOPE, self._clock)


def _describe(path: Path) -> tuple[str, str]:
    """The algorithm that the key signs by, and its `kid`.

    Raises:
        ValueError: there is no such key.
    """
    try:
        content = path.read_bytes()
        if content.lstrip().startswith(b"{"):
            key = json.loads(content)
            algorithm = key.get("alg") or ("ES384" if key.get("kty") == "EC" else "RS384")
            return str(algorithm), str(key.get("kid", ""))
        is_rsa = isinstance(load_pem_private_key(content, None), RSAPrivateKey)
    except (OSError, ValueError, TypeError):
        raise ValueError(f"{path}: there is no such private key") from None
    return ("RS384" if is_rsa else "ES384"), ""
