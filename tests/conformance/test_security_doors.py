"""The other doors of a secured server: its websocket, https, clients' certificates."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest
import requests
from typer.testing import CliRunner
from websockets.sync.client import connect

from fhir_server.cli.main import app
from tests.conformance.security_kit import secured_server


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured"), deliver=True) as running:
        yield running


def subscribe(secured, token):
    body = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": "Observation?status=final",
        "channel": {"type": "websocket", "payload": "application/fhir+json"},
    }
    made = secured.post("/fhir/Subscription", token, json=body)
    assert made.status_code == 201, made.text
    path = f"/fhir/Subscription/{made.json()['id']}"
    deadline = time.monotonic() + 20
    while secured.get(path, token).json()["status"] != "active":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return made.json()["id"]


def test_a_websocket_is_bound_by_a_token_and_never_by_naming_a_subscription(secured):
    token = secured.backend().token()
    subscription = subscribe(secured, token)
    path = f"/fhir/Subscription/{subscription}/$get-ws-binding-token"
    assert secured.get(path).status_code == 401
    answer = secured.get(path, token).json()
    binding = {part["name"]: part for part in answer["parameter"]}["token"]["valueString"]
    url = secured.fhir.replace("http", "ws", 1) + "/websocket"
    with connect(url) as socket:
        socket.send(f"bind {subscription}")
        assert socket.recv(timeout=10).startswith("error a token is needed")
        socket.send("bind-with-token made-up")
        assert socket.recv(timeout=10).startswith("error")
        socket.send(f"bind-with-token {binding}")
        assert not str(socket.recv(timeout=10)).startswith("error")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """The files of an authority, of a server's and of a client's certificate, with their keys."""
    openssl = shutil.which("openssl")
    if openssl is None:
        if os.environ.get("CI"):
            pytest.fail("openssl is missing where it must be")
        pytest.skip("needs the openssl program")
    folder = tmp_path_factory.mktemp("tls")

    def make(name, *more):
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
                *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
                *("-out", folder / f"{name}.pem", "-keyout", folder / f"{name}.key"),
                *more,
            ],
            check=True,
            capture_output=True,
        )

    make("authority", "-addext", "keyUsage=digitalSignature,keyCertSign")
    signed = ("-CA", folder / "authority.pem", "-CAkey", folder / "authority.key")
    for name in ("server", "client"):
        make(name, "-addext", "basicConstraints=critical,CA:FALSE", *signed)
    make("stranger")
    return folder


def test_https_lets_in_who_has_a_certificate_and_then_asks_for_a_token(
    certificates, tmp_path, monkeypatch
):
    for name, value in {
        "STORE": f"sqlite:///{tmp_path}/fhir.db",
        "TLS_CERTIFICATE": f"{certificates}/server.pem",
        "TLS_KEY": f"{certificates}/server.key",
        "TLS_CLIENT_CA": f"{certificates}/authority.pem",
        "PLAN_TEMPLATES": "0",
        "DRAIN_SECONDS": "0",
        "AUTH": "smart",
    }.items():
        monkeypatch.setenv(f"FHIR_SERVER_{name}", value)
    log = tmp_path / "log"
    with log.open("wb") as out:
        command = [sys.executable, "-m", "fhir_server", "serve", "--port", "0"]
        process = subprocess.Popen(command, stdout=out, stderr=out)

    def ask(url, name):
        pair = (f"{certificates}/{name}.pem", f"{certificates}/{name}.key") if name else None
        ca = f"{certificates}/authority.pem"
        return requests.get(f"{url}/fhir/Patient", cert=pair, verify=ca, timeout=20)

    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"serving (https://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        while True:
            try:
                answer = ask(found[1], "client")
                break
            except requests.ConnectionError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for name in ("", "stranger"):
            with pytest.raises((requests.exceptions.SSLError, requests.ConnectionError)):
                ask(found[1], name)
    finally:
        process.terminate()
        # Clients that have gone are not waited for.
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (("--host", "0.0.0.0"), {}, "FHIR_SERVER_BASE_URL is needed"),
        (("--host", "0.0.0.0", "--auth", "none"), {}, "AUTH=none is refused"),
        ((), {"TLS_KEY": "key.pem"}, "both or neither"),
        ((), {"ISSUER": '{"url": "https://sso.example"}'}, "ISSUER.audience"),
        ((), {"AUTH": "magic"}, "FHIR_SERVER_AUTH"),
    ],
)
def test_what_would_not_be_secure_does_not_start(tmp_path, monkeypatch, arguments, variables, said):
    monkeypatch.setenv("FHIR_SERVER_STORE", f"sqlite:///{tmp_path}/fhir.db")
    monkeypatch.setenv("FHIR_SERVER_AUTH", "smart")
    for name, value in variables.items():
        monkeypatch.setenv(f"FHIR_SERVER_{name}", value)
    done = CliRunner().invoke(app, ["serve", "--port", "0", *arguments])
    assert done.exit_code == 2, done.output
    assert said in done.output
