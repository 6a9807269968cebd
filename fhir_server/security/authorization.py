"""Authorization: an app asks, a person signs in and agrees, the app gets a code.

https://hl7.org/fhir/smart-app-launch/app-launch.html https://www.rfc-editor.org/rfc/rfc9700
"""

import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from fhir_server.core.identity import is_resource_id
from fhir_server.core.security import scope as smart
from fhir_server.core.security.registration import Account, Client
from fhir_server.security.oauth_error import OAuthError
from fhir_server.security.registrations import Registrations, hashed
from fhir_server.store.security.protocol import SecurityStore

CODE = "code"
OFFLINE = "offline_access"
WORDS = ("openid", "fhirUser", "profile", "launch/patient", OFFLINE, "online_access")
"""Scopes that are no grants of resources."""

_LIFE = timedelta(seconds=60)
_CHALLENGE = re.compile(r"[A-Za-z0-9_\-]{43}", re.ASCII)
_LONGEST = 2_000


class Asked(NamedTuple):
    """What an app asks for, found in order. `scopes` are those that it may ask for at all."""

    client: Client
    redirect_uri: str
    scopes: tuple[str, ...]
    state: str
    challenge: str
    nonce: str

    @property
    def wants_patient(self) -> bool:
        return any(each.startswith(("patient/", "launch/patient")) for each in self.scopes)


class Refused(Exception):
    """The app is told where it asked to be: `url` has the error in it."""

    def __init__(self, url: str) -> None:
        super().__init__("refused")
        self.url = url


class Authorization:
    """Codes of the embedded server. Calls may wait for the store."""

    def __init__(
        self, registrations: Registrations, store: SecurityStore, now: Callable[[], datetime]
    ) -> None:
        self._registrations = registrations
        self._store = store
        self._now = now

    def asked(self, params: Mapping[str, str], base_url: str) -> Asked:
        """Raises `OAuthError`: the person is told, for where to send them is not sure.

        Raises:
            Refused: the app is told.
        """
        client_id = params.get("client_id", "")
        client = self._registrations.active(Client, client_id) if client_id else None
        redirect_uri = params.get("redirect_uri", "")
        if client is None or redirect_uri not in client.redirect_uris:
            raise OAuthError("invalid_request", "no app is registered that sends people back there")
        state = params.get("state", "")

        def refuse(error: str, description: str) -> Refused:
            return Refused(_back(redirect_uri, state, error=error, error_description=description))

        if any(len(value) > _LONGEST for value in params.values()):
            raise refuse("invalid_request", "a parameter is too long")
        if params.get("response_type") != "code":
            raise refuse("unsupported_response_type", "response_type is code")
        challenge = params.get("code_challenge", "")
        if params.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(challenge):
            raise refuse("invalid_request", "PKCE is needed: code_challenge by S256")
        if params.get("aud", "").rstrip("/") != base_url:
            raise refuse("invalid_request", f"aud is {base_url}")
        if "launch" in params:
            raise refuse("invalid_request", "apps are launched from outside: launch is not known")
        allowed = smart.parse_all(client.scopes)
        granted = client.scopes.split(" ")
        words = tuple(each for each in WORDS if each != OFFLINE or each in granted)
        scopes = smart.narrow(params.get("scope", ""), allowed, words)
        if not scopes:
            raise refuse("invalid_scope", "the app may have nothing of what it asks for")
        return Asked(client, redirect_uri, scopes, state, challenge, params.get("nonce", ""))

    def agreed(self, asked: Asked, account: Account, patient: str) -> str:
        """Where to send the person who has agreed, with the code.

        Raises:
            OAuthError: they named no patient, though the app is for one.
            Refused: there is nothing of it that they may give.
        """
        scopes = smart.narrow(" ".join(asked.scopes), smart.parse_all(account.scopes), WORDS)
        if not smart.parse_all(" ".join(scopes)) and not {"openid", "fhirUser"} & set(scopes):
            url = _back(asked.redirect_uri, asked.state, error="access_denied")
            raise Refused(url)
        own = account.patient
        patient = own.resource_id if own is not None else patient.removeprefix("Patient/").strip()
        if not asked.wants_patient:
            patient = ""
        elif not is_resource_id(patient):
            raise OAuthError("invalid_request", "Name the patient whom the app is for.")
        code = secrets.token_urlsafe(32)
        document = {
            "client": [asked.client.client_id, asked.client.generation],
            "account": [account.name, account.generation],
            "redirect_uri": asked.redirect_uri,
            "challenge": asked.challenge,
            "scopes": scopes,
            "patient": patient,
            "nonce": asked.nonce,
            "family": secrets.token_urlsafe(16),
        }
        self._store.keep(CODE, hashed(code), document, self._now() + _LIFE)
        return _back(asked.redirect_uri, asked.state, code=code)

    def declined(self, asked: Asked) -> str:
        """Where to send the person who has not agreed."""
        return _back(asked.redirect_uri, asked.state, error="access_denied")


def _back(redirect_uri: str, state: str, **said: str) -> str:
    if state:
        said["state"] = state
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(said)}"
