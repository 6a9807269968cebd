"""Backend services: a program proves itself with its key and gets a short token.

https://hl7.org/fhir/smart-app-launch/backend-services.html
"""

import base64
import hashlib
import hmac
import http.client
import json
import time
from dataclasses import replace

import pytest
import requests
from joserfc import jws
from joserfc.jwk import OctKey

from fhir_server.core.security.registration import Client
from tests.conformance.security_kit import new_key, secured_server, sign


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        yield running


@pytest.fixture(scope="module")
def backend(secured):
    return secured.backend("hospital", "system/*.cruds")


def check_challenge(response, *, said=None):
    assert response.status_code == 401, response.text
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith("Bearer")
    assert ("error" in challenge) == (said is not None)
    if said:
        assert f'error="{said}"' in challenge
    assert response.json()["issue"][0]["code"] == "login"


def test_without_a_token_nothing_but_what_is_open_is_answered(secured):
    for path in (
        "/fhir",
        "/fhir/Patient",
        "/fhir/Patient/1",
        "/fhir/nothing/at/all",
        "/readings/quarantine",
        "/console",
        "/nothing",
        "/auth",
        "/auth/token/",
        "/fhir/metadata/",
        "/fhir//metadata",
        "/fhir/metadata/../Patient",
        "//fhir/Patient",
        "/fhir/%6detadata/x",
        "/health/live/../../fhir/Patient",
        "/FHIR/metadata",
        "/fhir/metadata;x",
        "/fhir/Patient/.well-known/smart-configuration",
        "/fhir/.well-known/x",
    ):
        request = requests.Request("GET", "http://x").prepare()
        request.url = f"{secured.url}{path}"
        with requests.Session() as session:
            check_challenge(session.send(request, timeout=10))
    for path in ("/readings/iot-hub", "/enrolments/device-kit", "/fhir"):
        check_challenge(secured.post(path, json={}))


def test_what_is_open_is_answered(secured):
    for path in ("/fhir/metadata", "/health/live", "/health/ready", "/docs", "/openapi.json"):
        assert secured.get(path).status_code == 200, path


def test_a_refusal_is_in_the_format_that_was_asked_for(secured):
    response = secured.get("/fhir/Patient", headers={"Accept": "application/fhir+xml"})
    assert response.status_code == 401
    assert response.headers["Content-Type"].startswith("application/fhir+xml")
    assert b"<OperationOutcome" in response.content


def test_metadata_says_where_tokens_are_had(secured):
    statement = secured.get("/fhir/metadata").json()["rest"][0]["security"]
    assert statement["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    uris = {each["url"]: each["valueUri"] for each in statement["extension"][0]["extension"]}
    assert uris["token"] == secured.token_url
    configuration = secured.get("/fhir/.well-known/smart-configuration").json()
    assert configuration["token_endpoint"] == secured.token_url
    assert configuration["code_challenge_methods_supported"] == ["S256"]
    assert "private_key_jwt" in configuration["token_endpoint_auth_methods_supported"]
    assert "client-confidential-asymmetric" in configuration["capabilities"]
    keys = requests.get(configuration["jwks_uri"], timeout=10).json()["keys"]
    assert keys
    assert all("d" not in key for key in keys)


@pytest.mark.parametrize("algorithm", ["RS384", "ES384"])
def test_a_service_gets_a_token_and_is_let_in(secured, algorithm):
    service = secured.backend(algorithm=algorithm)
    response = service.ask(scope="system/Patient.rs")
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    given = response.json()
    assert given["token_type"].lower() == "bearer"
    assert given["scope"] == "system/Patient.rs"
    assert 0 < given["expires_in"] <= 300
    assert secured.get("/fhir/Patient", given["access_token"]).status_code == 200


def test_no_more_is_given_than_is_allowed(secured):
    service = secured.backend(scopes="system/Observation.rs system/Patient.r")
    assert service.ask(scope="system/*.cruds").json()["scope"] == (
        "system/Observation.rs system/Patient.r"
    )
    assert service.ask(scope="system/Observation.rs?category=vital-signs").json()["scope"] == (
        "system/Observation.rs?category=vital-signs"
    )
    for scope in ("system/Device.rs", "user/*.cruds", "patient/*.rs", "openid", "", "operator"):
        response = service.ask(scope=scope)
        assert (response.status_code, response.json()["error"]) == (400, "invalid_scope")


def refused(response, error="invalid_client"):
    assert response.status_code in (400, 401), response.text
    assert response.json()["error"] == error
    assert "access_token" not in response.json()


def test_an_assertion_is_good_once(backend):
    assertion = backend.assertion()
    assert backend.ask(assertion).status_code == 200
    refused(backend.ask(assertion))


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": "https://another.example/auth/token"},
        {"aud": None},
        {"iss": "somebody-else"},
        {"sub": "somebody-else"},
        {"sub": None},
        {"jti": None},
        {"jti": ""},
        {"exp": None},
        {"exp": int(time.time()) - 60},
        {"exp": int(time.time()) + 3_600},
        {"exp": "9999999999"},
        {"exp": True},
        {"nbf": int(time.time()) + 86_400},
        {"iat": int(time.time()) + 86_400},
    ],
    ids="-".join,
)
def test_an_assertion_that_says_something_wrong_is_refused(backend, changes):
    refused(backend.ask(backend.assertion(**changes)))


def test_an_assertion_by_another_key_is_refused(backend):
    refused(backend.ask(sign(backend.claims(), new_key("ES384"), "ES384")))
    refused(backend.ask(sign(backend.claims(), new_key("RS384"), "RS384")))
    refused(backend.ask(sign(backend.claims(), backend.key, "ES384", kid="unknown")))


def test_an_assertion_that_brings_its_own_key_is_refused(secured, backend):
    key = new_key("ES384")
    own = {"jwk": key.as_dict(private=False), "jku": f"{secured.url}/keys", "kid": "other"}
    refused(backend.ask(sign(backend.claims(), key, "ES384", **own)))
    refused(backend.ask(sign(backend.claims(), key, "ES384", jwk=own["jwk"])))


def encode(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(claims, algorithm="none", signature=""):
    return f"{encode({'alg': algorithm, 'typ': 'JWT', 'kid': 'key'})}.{encode(claims)}.{signature}"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "ES384", "HS256"])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_an_unsigned_assertion_is_refused(backend, algorithm, signature):
    refused(backend.ask(unsigned(backend.claims(), algorithm, signature)))


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret(secured, algorithm):
    service = secured.backend(algorithm="RS384")
    for secret in (service.key.as_pem(private=False), service.key.as_der(private=False)):
        header = {"alg": algorithm, "typ": "JWT", "kid": "key"}
        content = f"{encode(header)}.{encode(service.claims())}"
        digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
        signature = hmac.new(secret, content.encode(), digest[algorithm]).digest()
        refused(service.ask(f"{content}.{encode(signature)}"))


def test_a_client_by_its_name_alone_gets_nothing(secured, backend):
    form = {"grant_type": "client_credentials", "scope": "system/*.rs", "client_id": "hospital"}
    refused(requests.post(secured.token_url, data=form, timeout=10))
    basic = ("hospital", "")
    refused(requests.post(secured.token_url, data=form, auth=basic, timeout=10))
    refused(requests.post(secured.token_url, data=form, auth=("hospital", "x"), timeout=10))


@pytest.mark.parametrize(
    "assertion", ["", "a", "a.b", "a.b.c", "a.b.c.d", "....", "é.é.é", "x" * 20_000, "{}.{}.{}"]
)
def test_what_is_no_token_is_refused(backend, assertion):
    response = backend.ask(client_assertion=assertion)
    assert response.status_code in (400, 401), response.text


def test_a_parameter_that_is_there_twice_is_refused(secured, backend):
    body = f"grant_type=client_credentials&client_assertion={backend.assertion()}"
    body += "&scope=system/*.rs&scope=system/*.cruds"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    refused(secured.post("/auth/token", data=body, headers=headers), "invalid_request")
    refused(secured.post("/auth/token", json={}), "invalid_request")
    refused(backend.ask(grant_type="password"), "unsupported_grant_type")


def test_a_host_that_is_not_this_machine_is_not_believed(secured, backend):
    form = {
        "grant_type": "client_credentials",
        "scope": "system/*.rs",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": backend.assertion(aud="http://another.example/auth/token"),
    }
    response = secured.post("/auth/token", data=form, headers={"Host": "another.example"})
    assert response.status_code == 500
    assert "access_token" not in response.json()


def test_a_revoked_client_is_out_with_the_next_request(secured):
    service = secured.backend()
    token = service.token()
    assert secured.get("/fhir/Patient", token).status_code == 200
    secured.registrations.revoke(Client, service.client_id)
    check_challenge(secured.get("/fhir/Patient", token), said="invalid_token")
    refused(service.ask())


def test_rotated_keys_void_what_the_old_ones_got(secured):
    service = secured.backend()
    token, old = service.token(), service.key
    service.key = new_key("ES384")
    secured.registrations.change(
        Client, service.client_id, lambda was: replace(was, jwks=service.public())
    )
    check_challenge(secured.get("/fhir/Patient", token), said="invalid_token")
    assert secured.get("/fhir/Patient", service.token()).status_code == 200
    refused(service.ask(sign(service.claims(), old, "ES384")))


def test_a_token_can_be_given_back(secured, backend):
    token, other = backend.token(), backend.token()
    form = {
        "token": token,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": backend.assertion(),
    }
    assert secured.get("/fhir/Patient", token).status_code == 200
    assert secured.post("/auth/revoke", data=form).status_code == 200
    check_challenge(secured.get("/fhir/Patient", token), said="invalid_token")
    assert secured.get("/fhir/Patient", other).status_code == 200


def parts(token):
    head, body, _ = token.split(".")
    return (json.loads(base64.urlsafe_b64decode(each + "==")) for each in (head, body))


def test_an_altered_access_token_is_refused(secured, backend):
    token = backend.token(scope="system/Patient.rs")
    header, claims = parts(token)
    signature = token.rpartition(".")[2]
    more = {**claims, "scope": "system/*.cruds"}
    for altered in (
        f"{encode(header)}.{encode(more)}.{signature}",
        f"{encode({**header, 'alg': 'none'})}.{encode(more)}.",
        f"{encode({**header, 'alg': 'none'})}.{encode(more)}.{signature}",
        token[:-4] + "AAAA",
        token + "A",
        token.rpartition(".")[0] + ".",
        sign(more, new_key("ES256", header["kid"]), "ES256", typ="at+jwt"),
        jws.serialize_compact(
            {**header, "alg": "HS256"},
            json.dumps(more),
            OctKey.import_key(json.dumps(secured.get("/auth/keys").json()["keys"][0])),
            algorithms=["HS256"],
        ),
    ):
        check_challenge(secured.get("/fhir/Patient", altered), said="invalid_token")


def test_an_assertion_is_no_access_token(secured, backend):
    check_challenge(secured.get("/fhir/Patient", backend.assertion()), said="invalid_token")


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Basic aG9zcGl0YWw6eA==", "Bearer a b", "bearer \x00", "Bearer é",
     "Bearer " + "a" * 30_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_header_that_is_no_token_is_refused(secured, header):
    connection = http.client.HTTPConnection(secured.url.removeprefix("http://"), timeout=10)
    connection.putrequest("GET", "/fhir/Patient")
    connection.putheader("Authorization", header.encode("latin-1"))
    connection.endheaders()
    assert connection.getresponse().status in (400, 401, 431)
    connection.close()


def test_two_tokens_are_none(secured, backend):
    connection = http.client.HTTPConnection(secured.url.removeprefix("http://"), timeout=10)
    connection.putrequest("GET", "/fhir/Patient")
    for _ in range(2):
        connection.putheader("Authorization", f"Bearer {backend.token()}")
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_a_token_in_a_url_is_not_looked_at(secured, backend):
    check_challenge(secured.get(f"/fhir/Patient?access_token={backend.token()}"))


def test_metrics_are_for_this_machine_and_for_operators(secured, backend):
    assert secured.get("/metrics").status_code == 200
    proxied = {"X-Forwarded-For": "203.0.113.7"}
    assert secured.get("/metrics", headers=proxied).status_code == 401
    assert secured.get("/metrics", backend.token(), headers=proxied).status_code == 403
    operator = secured.backend()
    secured.registrations.change(
        Client,
        operator.client_id,
        lambda was: replace(was, roles=("operator",)),
    )
    assert secured.get("/metrics", operator.token(), headers=proxied).status_code == 200
