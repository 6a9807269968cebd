"""Tokens of another authorization server: by its keys, which turn, or by asking it."""

import json
import threading
import time
from base64 import urlsafe_b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from fhir_server.core.security.registration import Gateway
from tests.conformance.security_kit import new_key, secured_server, sign

AUDIENCE = "https://fhir.example/fhir"


class Issuer:
    """An authorization server that one can put words into the mouth of."""

    def __init__(self):
        self.keys = [new_key("RS256", "first")]
        self.active = {}
        self.asked = []
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(self.path)
                documents = {
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.url,
                        "jwks_uri": f"{issuer.url}/keys",
                        "token_endpoint": f"{issuer.url}/token",
                        "authorization_endpoint": f"{issuer.url}/authorize",
                    },
                    "/keys": {"keys": [each.as_dict(private=False) for each in issuer.keys]},
                }
                self.answer(documents[self.path])

            def do_POST(self):
                issuer.asked.append(self.path)
                assert self.headers["Authorization"].startswith("Basic ")
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.answer(issuer.active.get(form["token"][0], {"active": False}))

            def answer(self, document):
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def claims(self, **changes):
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "irina",
            "azp": "an-app",
            "scope": "openid user/*.rs",
            "exp": int(time.time()) + 300,
            "iat": int(time.time()),
            "jti": "1",
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, key=None, algorithm="RS256", header=None, **changes):
        return sign(self.claims(**changes), key or self.keys[-1], algorithm, **(header or {}))


@pytest.fixture(scope="module")
def issuer():
    running = Issuer()
    yield running
    running.close()


@pytest.fixture(scope="module")
def secured(issuer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("secured")
    with secured_server(folder, issuer={"url": issuer.url, "audience": AUDIENCE}) as running:
        yield running


def status(secured, token):
    return secured.get("/fhir/Patient", token).status_code


def test_a_token_of_the_issuer_lets_in(secured, issuer):
    assert status(secured, issuer.token()) == 200
    assert status(secured, issuer.token(aud=["other", AUDIENCE])) == 200
    assert status(secured, issuer.token(header={"typ": "at+jwt"})) == 200
    # The clocks of two servers are never quite the same.
    assert status(secured, issuer.token(exp=int(time.time()) - 5)) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://another.example"},
        {"iss": None},
        {"aud": "account"},
        {"aud": None},
        {"aud": [AUDIENCE + "/"]},
        {"exp": None},
        {"exp": int(time.time()) - 600},
        {"exp": float("inf")},
        {"exp": True},
        {"nbf": int(time.time()) + 86_400},
        {"iat": int(time.time()) + 86_400},
        {"typ": "Refresh"},
        {"typ": "ID"},
        {"patient": "../Patient"},
        {"scope": 7},
        {"sub": "x" * 1_000},
        {"fhirUser": "Patient/1", "patient": "2"},
    ],
    ids="-".join,
)
def test_a_token_that_says_something_wrong_is_refused(secured, issuer, changes):
    assert status(secured, issuer.token(**changes)) == 401


def test_a_token_that_somebody_else_signed_is_refused(secured, issuer):
    other = new_key("RS256", "first")
    assert status(secured, issuer.token(other)) == 401
    assert status(secured, issuer.token(header={"typ": "logout+jwt"})) == 401
    assert status(secured, with_header(issuer, crit=["x"], x=1)) == 401
    assert status(secured, with_header(issuer)) == 200
    own = {"jwk": other.as_dict(private=False)}
    assert status(secured, issuer.token(other, header=own)) == 401
    assert status(secured, issuer.token(new_key("ES256", "first"), "ES256")) == 401


def with_header(issuer, **header):
    """A token whose header no library would write."""
    key = issuer.keys[-1]
    parts = {"alg": "RS256", "kid": key.kid, **header}, issuer.claims()
    encoded = [urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    content = b".".join(encoded)
    signature = key.private_key.sign(content, PKCS1v15(), SHA256())
    return b".".join((content, urlsafe_b64encode(signature).rstrip(b"="))).decode()


def test_a_new_key_is_found_and_a_made_up_one_makes_no_work(secured, issuer):
    assert status(secured, issuer.token()) == 200
    made_up = new_key("RS256", "made up")
    for _ in range(5):
        assert status(secured, issuer.token(made_up)) == 401
    assert issuer.asked.count("/keys") <= 2


def test_the_issuers_addresses_are_told(secured, issuer):
    for _ in range(50):
        configuration = secured.get("/fhir/.well-known/smart-configuration").json()
        if "token_endpoint" in configuration:
            break
        time.sleep(0.1)
    assert configuration["token_endpoint"] == f"{issuer.url}/token"
    assert "launch-standalone" not in configuration["capabilities"]
    assert secured.post("/auth/token", data={}).status_code == 404


def test_gateways_keys_are_still_ours(secured):
    secured.registrations.add(Gateway(name="hub"))
    key = secured.registrations.renew_gateway_key("hub")
    answer = secured.post("/readings/iot-hub", key, json={})
    assert answer.status_code == 200


def test_a_key_that_has_turned_is_fetched(issuer, tmp_path):
    settings = {"url": issuer.url, "audience": AUDIENCE}
    with secured_server(tmp_path, issuer=settings) as secured:
        assert status(secured, issuer.token()) == 200
        turned = new_key("ES256", "second")
        issuer.keys.append(turned)
        assert status(secured, issuer.token(turned, "ES256")) == 200


def test_what_only_the_issuer_can_read_it_is_asked(issuer, tmp_path):
    now = int(time.time())
    good = {"active": True, "scope": "system/*.rs", "client_id": "x", "aud": AUDIENCE}
    issuer.active = {
        "good": {**good, "exp": now + 60},
        "over": {**good, "exp": now - 60},
        "for-another": {**good, "aud": "another"},
        "for-nobody": {name: value for name, value in good.items() if name != "aud"},
        "of-another": {**good, "iss": "https://another.example"},
        "inactive": {**good, "active": "true"},
    }
    settings = {
        "url": issuer.url,
        "audience": AUDIENCE,
        "introspection_url": f"{issuer.url}/introspect",
        "client_id": "fhir-server",
    }
    with secured_server(tmp_path, issuer=settings, issuer_secret="s") as secured:
        answers = {token: status(secured, token) for token in (*issuer.active, "unknown")}
        assert answers.pop("good") == 200
        assert set(answers.values()) == {401}
        before = len(issuer.asked)
        for _ in range(5):
            assert status(secured, "good") == 200
        assert len(issuer.asked) == before


def test_while_the_issuer_is_away_nobody_is_let_in(tmp_path):
    settings = {"url": "http://127.0.0.1:9", "audience": AUDIENCE}
    with secured_server(tmp_path, issuer=settings) as secured:
        key = new_key("RS256", "first")
        token = sign({"iss": "http://127.0.0.1:9", "aud": AUDIENCE}, key, "RS256")
        answer = secured.get("/fhir/Patient", token)
        assert answer.status_code == 503
        assert "Retry-After" in answer.headers
