"""Who asks a secured server when it is fuzzed, and a patient of whom only some may hear."""

import random
import secrets
import time
from collections.abc import Callable
from typing import NamedTuple

import requests

from fhir_server.app import now
from fhir_server.core.security.registration import Account, Client, Gateway
from fhir_server.security.passwords import hash_password
from fhir_server.security.registrations import Registrations, hashed
from fhir_server.store.security.open import open_security_store
from tests.conformance.fuzz_requests import Wish
from tests.conformance.security_kit import new_key, sign
from tests.conformance.test_security_sign_in import BACK, App, said

# Words that no request has in it, so an answer that has one was told something.
PATIENT, READING = "Zhdanova-kept-apart", "a-reading-kept-apart"
HIDDEN = ["hidden", "hidden-o1", "hidden-c1"]
_PASSWORD = "correct horse battery"
_PEOPLE = "user/*.cruds patient/*.cruds"
# Less than what a token of a program lives.
_TOKEN_SECONDS = 200


class Caller(NamedTuple):
    """`may_see` are those of the words that are no leak; `is_known` says whether it has a token."""

    name: str
    token: Callable[[], str]
    may_see: frozenset[str] = frozenset()
    is_known: bool = True


class Callers:
    """Registered in the security store of `store`, and let in at `url` as anybody is."""

    def __init__(self, url: str, store: str) -> None:
        self.url = url
        self.fhir = f"{url}/fhir"
        self.token_url = f"{url}/auth/token"
        self._tokens: dict[str, tuple[float, str]] = {}
        security = open_security_store("", store, now)
        self.registrations = Registrations(security, now)
        self.all = [
            self._program("hospital", "system/*.cruds", may_see={PATIENT, READING}),
            self._program("reader", "system/*.rs", may_see={PATIENT, READING}),
            self._program("registry", "system/Observation.rs", may_see={READING}),
            self._program("insurer", "system/*.rs", role="insurer=Organization/1"),
            self._program("maker", "system/*.rs", role="manufacturer=Organization/1"),
            self._person("patient", "Patient/1"),
            self._person("doctor", "Practitioner/1"),
            self._gateway("ward"),
            Caller("forged", self._forged, is_known=False),
            Caller("nobody", str, is_known=False),
        ]
        security.close()
        self._hide()

    def _hide(self) -> None:
        subject = {"reference": "Patient/hidden"}
        code = {"text": READING, "coding": [{"system": "http://loinc.org", "code": "8867-4"}]}
        quantity = {"value": 61, "system": "http://unitsofmeasure.org", "code": "/min"}
        for body in (
            {"resourceType": "Patient", "id": "hidden", "name": [{"family": PATIENT}],
             "identifier": [{"system": "urn:snils", "value": PATIENT}]},
            {"resourceType": "Observation", "id": "hidden-o1", "status": "final", "code": code,
             "subject": subject, "effectiveDateTime": "2024-03-01", "valueQuantity": quantity},
            {"resourceType": "Condition", "id": "hidden-c1", "subject": subject,
             "code": {"text": PATIENT}},
        ):  # fmt: skip
            token = self.all[0].token()
            answer = requests.put(
                f"{self.fhir}/{body['resourceType']}/{body['id']}",
                json=body,
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            )
            assert answer.status_code in (200, 201), answer.text

    def _program(self, name: str, scopes: str, *, role: str = "", may_see: set[str] = frozenset()):
        key = new_key("ES384")
        roles = (role,) if role else ()
        jwks = {"keys": [key.as_dict(private=False)]}
        self.registrations.add(Client(client_id=name, scopes=scopes, jwks=jwks, roles=roles))

        def ask() -> str:
            claims = {"iss": name, "sub": name, "aud": self.token_url,
                      "exp": int(time.time()) + 200, "jti": secrets.token_urlsafe(16)}  # fmt: skip
            form = {
                "grant_type": "client_credentials",
                "scope": scopes,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                "client_assertion": sign(claims, key, "ES384"),
            }
            return _access_token(requests.post(self.token_url, data=form, timeout=60))

        return Caller(name, self._kept(name, ask), frozenset(may_see))

    def _person(self, name: str, fhir_user: str) -> Caller:
        client_id, secret = f"app-of-{name}", secrets.token_urlsafe(16)
        self.registrations.add(
            Client(
                client_id=client_id,
                scopes=_PEOPLE,
                redirect_uris=(BACK,),
                secret=hashed(secret),
                purposes=("TREAT", "BTG"),
            )
        )
        password = hash_password(_PASSWORD)
        self.registrations.add(
            Account(name=name, password=password, fhir_user=fhir_user, scopes=_PEOPLE)
        )

        def ask() -> str:
            app = App(self, client_id, secret)
            page = app.sign_in(name, _PASSWORD, asked={"scope": _PEOPLE}, patient="1")
            return _access_token(app.exchange(said(page)["code"]))

        return Caller(name, self._kept(name, ask))

    def _gateway(self, name: str) -> Caller:
        self.registrations.add(Gateway(name=name))
        key = self.registrations.renew_gateway_key(name)
        return Caller(name, lambda: key)

    def _forged(self) -> str:
        """A token whose name is another's; the signature stays."""
        token = self.all[1].token()
        head, body, signature = token.split(".")
        return f"{head}.{body[:-4]}AAAA.{signature}"

    def _kept(self, name: str, ask: Callable[[], str]) -> Callable[[], str]:
        def token() -> str:
            until, kept = self._tokens.get(name, (0.0, ""))
            if until < time.monotonic():
                kept = ask()
                self._tokens[name] = (time.monotonic() + _TOKEN_SECONDS, kept)
            return kept

        return token


def aim(chance: random.Random, wish: Wish) -> Wish:
    """Some of the requests ask for what is kept apart."""
    if chance.random() < 0.7:
        return wish
    path = wish.path.replace("/1", f"/{chance.choice(HIDDEN)}", 1)
    condition = chance.choice(
        ["_id=hidden", "patient=hidden", "subject=Patient/hidden", "_id=hidden-o1",
         "_has:Observation:patient:_id=hidden-o1", "patient._id=hidden", "_revinclude=*",
         "_include=*", "_id:not=1", "_lastUpdated=gt2000", "_total=accurate", "code:text=a-r"]
    )  # fmt: skip
    if chance.random() < 0.5:
        path += f"{'&' if '?' in path else '?'}{condition}"
    headers = dict(wish.headers)
    if chance.random() < 0.05:
        headers["If-None-Exist"] = condition
    if chance.random() < 0.05:
        headers |= {"X-Break-Glass": chance.choice(["Patient/hidden", "Patient/1", "*", ""]),
                    "X-Break-Glass-Reason": chance.choice(["", "x"])}  # fmt: skip
    body = wish.body
    if chance.random() < 0.5:
        body = body.replace(b"Patient/1", b"Patient/hidden")
    return Wish(wish.method, path, headers, body)


def _access_token(answer: requests.Response) -> str:
    assert answer.status_code == 200, answer.text
    token: str = answer.json()["access_token"]
    return token
