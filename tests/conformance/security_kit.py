"""What tests of a secured server share: a server that asks, and clients that can answer."""

import json
import secrets
import time
from contextlib import contextmanager

import requests
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from fhir_server.app import now
from fhir_server.core.security.registration import Client
from fhir_server.security.registrations import Registrations
from fhir_server.store.security.open import open_security_store
from tests.conformance.conftest import Server

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Secured:
    """A server that asks for tokens, and its registrations as another process has them open."""

    def __init__(self, server, store):
        self.server = server
        self.fhir = server.fhir
        self.url = server.url
        self.token_url = f"{server.url}/auth/token"
        self.store = store
        self.registrations = Registrations(store, now)

    def get(self, path, token=None, **more):
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return requests.get(f"{self.url}{path}", headers=headers, timeout=20, **more)

    def post(self, path, token=None, **more):
        headers = dict(more.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return requests.post(f"{self.url}{path}", headers=headers, timeout=20, **more)

    def backend(self, name=None, scopes="system/*.cruds", algorithm="ES384"):
        """A backend service, registered with its public key."""
        backend = Backend(self, name or f"c{secrets.token_hex(6)}", algorithm)
        self.registrations.add(
            Client(client_id=backend.client_id, scopes=scopes, jwks=backend.public())
        )
        return backend


class Backend:
    """A program with a key; it asks for tokens as SMART's backend services do."""

    def __init__(self, secured, client_id, algorithm):
        self.secured = secured
        self.client_id = client_id
        self.algorithm = algorithm
        self.key = new_key(algorithm)

    def public(self):
        return {"keys": [self.key.as_dict(private=False)]}

    def claims(self, **changes):
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self.secured.token_url,
            "exp": int(time.time()) + 240,
            "jti": secrets.token_urlsafe(16),
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def assertion(self, **changes):
        return sign(self.claims(**changes), self.key, self.algorithm)

    def ask(self, assertion=None, scope="system/*.rs", **form):
        form = {
            "grant_type": "client_credentials",
            "scope": scope,
            "client_assertion_type": ASSERTION,
            "client_assertion": assertion or self.assertion(),
            **form,
        }
        return requests.post(self.secured.token_url, data=form, timeout=20)

    def token(self, scope="system/*.cruds"):
        response = self.ask(scope=scope)
        assert response.status_code == 200, response.text
        return response.json()["access_token"]


def new_key(algorithm, key_id="key"):
    if algorithm.startswith("RS"):
        return RSAKey.generate_key(2048, {"kid": key_id})
    curve = {"ES256": "P-256", "ES384": "P-384"}[algorithm]
    return ECKey.generate_key(curve, {"kid": key_id})


def sign(claims, key, algorithm, **header):
    header = {"alg": algorithm, "typ": "JWT", "kid": key.kid, **header}
    header = {name: value for name, value in header.items() if value is not None}
    return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[algorithm])


@contextmanager
def secured_server(folder, **settings):
    url = settings.pop("store", f"sqlite:///{folder}/fhir.db")
    with Server(store=url, auth="smart", plan_templates=False, **settings) as server:
        store = open_security_store("", url, now)
        try:
            yield Secured(server, store)
        finally:
            store.close()
