"""People sign in to apps: authorization code with PKCE, refreshed, taken back.

https://hl7.org/fhir/smart-app-launch/app-launch.html
"""

import base64
import hashlib
import json
import re
import secrets
from html import unescape
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from fhirclient.client import FHIRClient
from fhirclient.models.patient import Patient

from fhir_server.core.security.registration import Account, Client
from fhir_server.security.passwords import hash_password
from fhir_server.security.registrations import hashed
from tests.conformance.security_kit import secured_server

BACK = "https://app.example/back"
PASSWORD = "correct horse battery"
SCOPE = "openid fhirUser launch/patient offline_access user/*.rs patient/*.rs"


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        register = running.registrations.add
        register(
            Client(
                client_id="app",
                title="<b>Blood pressure</b>",
                scopes=SCOPE,
                redirect_uris=(BACK, "org.example.app:/back"),
            )
        )
        register(
            Client(
                client_id="site",
                scopes="user/*.cruds patient/*.cruds",
                redirect_uris=(BACK,),
                secret=hashed("the secret of the site"),
            )
        )
        password = hash_password(PASSWORD)
        register(
            Account(
                name="irina",
                password=password,
                fhir_user="Practitioner/7",
                scopes="user/*.rs patient/*.rs",
            )
        )
        register(
            Account(name="pavel", password=password, fhir_user="Patient/p1", scopes="patient/*.rs")
        )
        yield running


class App:
    """An app that sends people to sign in, as a browser and an app would together."""

    def __init__(self, secured, client_id="app", secret=None):
        self.secured = secured
        self.client_id = client_id
        self.auth = (client_id, secret) if secret else None
        self.verifier = secrets.token_urlsafe(48)

    def params(self, **changes):
        digest = hashlib.sha256(self.verifier.encode()).digest()
        params = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": BACK,
            "scope": SCOPE,
            "state": "the state",
            "aud": self.secured.fhir,
            "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
            "code_challenge_method": "S256",
            "nonce": "the nonce",
            **changes,
        }
        return {name: value for name, value in params.items() if value is not None}

    def ask(self, **changes):
        url = f"{self.secured.url}/auth/authorize?{urlencode(self.params(**changes))}"
        return requests.get(url, timeout=20, allow_redirects=False)

    def sign_in(self, name="irina", password=PASSWORD, **changes):
        """Fill in the page as it is, and send it."""
        page = self.ask(**changes.pop("asked", {}))
        return fill_in(self.secured, page, username=name, password=password, **changes)

    def code(self, name="irina", **changes):
        changes = {"patient": "p1", **changes}
        return said(self.sign_in(name, **changes))["code"]

    def exchange(self, code, **changes):
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": BACK,
            "client_id": self.client_id,
            "code_verifier": self.verifier,
            **changes,
        }
        url = self.secured.token_url
        return requests.post(url, data=form, auth=self.auth, timeout=20)

    def refresh(self, token, **more):
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client_id}
        url = self.secured.token_url
        return requests.post(url, data={**form, **more}, auth=self.auth, timeout=20)


def fill_in(secured, page, **fields):
    assert page.status_code == 200, page.text
    hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    form = {unescape(name): unescape(value) for name, value in hidden}
    form |= {"decision": "allow", **fields}
    url = f"{secured.url}/auth/authorize"
    return requests.post(url, data=form, timeout=20, allow_redirects=False)


def said(response):
    """What the app is told."""
    assert response.status_code == 303, response.text
    url = urlsplit(response.headers["Location"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == BACK
    return {name: values[0] for name, values in parse_qs(url.query).items()}


def claims(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=="))


def test_a_physician_signs_in_and_the_app_gets_what_both_may(secured):
    app = App(secured)
    answer = app.sign_in(patient="p1")
    assert said(answer)["state"] == "the state"
    given = app.exchange(said(answer)["code"]).json()
    assert set(given["scope"].split()) == set(SCOPE.split())
    assert given["patient"] == "p1"
    assert secured.get("/fhir/Patient?_count=1", given["access_token"]).status_code == 200
    known = claims(given["id_token"])
    assert known["aud"] == "app"
    assert known["nonce"] == "the nonce"
    assert known["fhirUser"] == f"{secured.fhir}/Practitioner/7"
    # That one is for the app, not for us.
    assert secured.get("/fhir/Patient", given["id_token"]).status_code == 401


def test_a_patient_is_asked_for_nobody_else(secured):
    app = App(secured)
    given = app.exchange(app.code("pavel", patient="somebody-else")).json()
    assert given["patient"] == "p1"
    assert "user/*.rs" not in given["scope"]


def test_the_page_shows_the_app_as_text_and_loads_nothing(secured):
    page = App(secured).ask()
    assert "<b>Blood pressure</b>" not in page.text
    assert "&lt;b&gt;Blood pressure" in page.text
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in page.headers
    for name in ("username", "password"):
        assert f'<label for="{name}">' in page.text


def test_what_an_app_sends_cannot_break_out_of_the_page(secured):
    page = App(secured).ask(state='"><script>alert(1)</script>')
    assert page.status_code == 200
    assert "<script>" not in page.text


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": "https://evil.example/back"},
        {"redirect_uri": f"{BACK}/../evil"},
        {"redirect_uri": f"{BACK}?x=1"},
        {"redirect_uri": None},
    ],
    ids=str,
)
def test_nobody_is_sent_to_where_no_app_is(secured, changes):
    answer = App(secured).ask(**changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"aud": "https://another.example/fhir"}, "invalid_request"),
        ({"aud": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "system/*.cruds"}, "invalid_scope"),
        ({"launch": "x"}, "invalid_request"),
    ],
    ids=str,
)
def test_an_app_is_told_what_is_wrong(secured, changes, error):
    answer = said(App(secured).ask(**changes))
    assert answer["error"] == error
    assert answer["state"] == "the state"


def test_who_does_not_agree_gives_nothing(secured):
    answer = App(secured).sign_in(decision="deny", password="")
    assert said(answer)["error"] == "access_denied"


def test_a_wrong_password_and_a_wrong_name_are_told_alike(secured):
    wrong = App(secured).sign_in(password="not the password")
    nobody = App(secured).sign_in(name="nobody")
    assert wrong.status_code == nobody.status_code == 403
    strip = re.compile(r'nonce="[^"]*"|value="[^"]*"')
    assert strip.sub("", wrong.text) == strip.sub("", nobody.text)


def test_guessing_ends_soon_even_with_the_right_password(secured):
    secured.registrations.add(
        Account(name="oleg", password=hash_password(PASSWORD), scopes="user/*.rs")
    )
    tries = [App(secured).sign_in("oleg", "a wrong password").status_code for _ in range(6)]
    assert tries == [403] * 5 + [429]
    assert App(secured).sign_in("oleg").status_code == 429


def refused(response, error="invalid_grant"):
    assert response.status_code in (400, 401), response.text
    assert response.json()["error"] == error


def test_a_code_is_good_once_and_voids_all_when_shown_again(secured):
    app = App(secured)
    code = app.code()
    given = app.exchange(code).json()
    assert secured.get("/fhir/Patient", given["access_token"]).status_code == 200
    refused(app.exchange(code))
    assert secured.get("/fhir/Patient", given["access_token"]).status_code == 401
    refused(app.refresh(given["refresh_token"]))


def test_a_code_is_for_its_app_its_place_and_its_verifier(secured):
    app = App(secured)
    refused(app.exchange(app.code(), code_verifier="another"))
    refused(app.exchange(app.code(), code_verifier=""))
    refused(app.exchange(app.code(), redirect_uri="https://app.example/other"))
    refused(app.exchange("made up"))
    site = App(secured, "site", "the secret of the site")
    refused(site.exchange(app.code(), code_verifier=app.verifier))


def test_a_client_with_a_secret_has_to_show_it(secured):
    site = App(secured, "site", "the secret of the site")
    code = site.code(asked={"scope": "user/*.rs"})
    thief = App(secured, "site", "another secret")
    refused(thief.exchange(code, code_verifier=site.verifier), "invalid_client")
    nameless = App(secured, "site")
    refused(nameless.exchange(code, code_verifier=site.verifier), "invalid_client")
    assert site.exchange(code).status_code == 200


def test_a_refresh_token_turns_and_an_old_one_voids_all(secured):
    app = App(secured)
    first = app.exchange(app.code()).json()
    second = app.refresh(first["refresh_token"]).json()
    assert secured.get("/fhir/Patient", second["access_token"]).status_code == 200
    assert second["refresh_token"] != first["refresh_token"]
    narrowed = app.refresh(second["refresh_token"], scope="patient/*.rs system/*.cruds").json()
    assert narrowed["scope"] == "patient/*.rs"
    refused(app.refresh(first["refresh_token"]))
    refused(app.refresh(narrowed["refresh_token"]))
    assert secured.get("/fhir/Patient", narrowed["access_token"]).status_code == 401


@pytest.mark.parametrize("scope", ["system/*.cruds", "user/*.cud", "nonsense"])
def test_who_asks_for_more_than_a_refresh_token_is_good_for_keeps_it(secured, scope):
    app = App(secured)
    given = app.exchange(app.code("irina")).json()
    asked = app.refresh(given["refresh_token"], scope=scope)
    assert (asked.status_code, asked.json()["error"]) == (400, "invalid_scope")
    assert app.refresh(given["refresh_token"]).status_code == 200


def test_without_offline_or_online_access_there_is_no_refresh_token(secured):
    app = App(secured)
    given = app.exchange(app.code(asked={"scope": "user/*.rs"})).json()
    assert "refresh_token" not in given
    assert "id_token" not in given
    assert "patient" not in given


def test_an_account_that_is_revoked_is_out_with_the_next_request(secured):
    secured.registrations.add(
        Account(
            name="leaving",
            password=hash_password(PASSWORD),
            fhir_user="Practitioner/8",
            scopes="user/*.rs",
        )
    )
    app = App(secured)
    given = app.exchange(app.code("leaving")).json()
    assert secured.get("/fhir/Patient", given["access_token"]).status_code == 200
    secured.registrations.revoke(Account, "leaving")
    assert secured.get("/fhir/Patient", given["access_token"]).status_code == 401
    refused(app.refresh(given["refresh_token"]))
    assert app.sign_in("leaving").status_code == 403


def test_fhirclient_signs_in_and_reads(secured):
    client = FHIRClient(
        settings={
            "app_id": "app",
            "api_base": secured.fhir,
            "redirect_uri": BACK,
            "scope": "launch/patient offline_access patient/*.rs user/*.rs",
        }
    )
    assert client.prepare() is False
    page = requests.get(client.authorize_url, timeout=20)
    answer = fill_in(secured, page, username="irina", password=PASSWORD, patient="p1")
    client.handle_callback(answer.headers["Location"])
    assert client.ready
    assert client.patient_id == "p1"
    assert list(Patient.where({"_count": "1"}).perform_iter(client.server))
    assert client.reauthorize()
    assert list(Patient.where({"_count": "1"}).perform_iter(client.server))
