"""TokenGrants: what the token endpoint gives for a proof, a code or a refresh token.

https://www.rfc-editor.org/rfc/rfc6749 https://hl7.org/fhir/smart-app-launch/backend-services.html
"""

import base64
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any

from fhir_server.core.security import scope as smart
from fhir_server.core.security.registration import Account, Client
from fhir_server.security.authorization import CODE, WORDS
from fhir_server.security.oauth_error import OAuthError
from fhir_server.security.own_tokens import Grant, OwnTokens
from fhir_server.security.registrations import Registrations, hashed
from fhir_server.security.signing_keys import SigningKeys
from fhir_server.store.security.protocol import Document, SecurityStore

GRANTS = ("client_credentials", "authorization_code", "refresh_token")

PROGRAM_LIFE = timedelta(minutes=5)
PERSON_LIFE = timedelta(minutes=15)

_REFRESH_LIVES = (("offline_access", timedelta(days=30)), ("online_access", timedelta(hours=12)))
_REFRESH = "refresh"

Form = Mapping[str, str]


class TokenGrants:
    """Calls may wait for the store."""

    def __init__(
        self,
        tokens: OwnTokens,
        keys: SigningKeys,
        registrations: Registrations,
        store: SecurityStore,
        now: Callable[[], datetime],
    ) -> None:
        self._tokens = tokens
        self._keys = keys
        self._registrations = registrations
        self._store = store
        self._now = now

    def give(self, client: Client, form: Form, base_url: str) -> dict[str, Any]:
        """The token response for a client that has proven who it is.

        Raises:
            OAuthError: it is not given anything.
        """
        kind = form.get("grant_type", "")
        if kind == "client_credentials":
            return self._to_program(client, form)
        if kind == "authorization_code":
            return self._for_code(client, form, base_url)
        if kind == "refresh_token":
            return self._for_refresh_token(client, form)
        raise OAuthError("unsupported_grant_type", f"grant_type is one of {', '.join(GRANTS)}")

    def revoke(self, client: Client, token: str) -> None:
        """Take back an access token or a refresh token of the client.

        https://www.rfc-editor.org/rfc/rfc7009
        """
        family, mark, secret = token.partition(".")
        if mark and "." not in secret:
            found = self._store.look(_REFRESH, family)
            if found and found["client"][0] == client.client_id:
                self._revoke_family(family)
        else:
            self._tokens.revoke(token, client.client_id)

    def _to_program(self, client: Client, form: Form) -> dict[str, Any]:
        if client.is_public:
            raise OAuthError("unauthorized_client", "a program by itself needs a key or a secret")
        allowed = smart.parse_all(client.scopes)
        system = tuple(each for each in allowed if each.context == "system")
        scopes = smart.narrow(form.get("scope", ""), system)
        if not scopes:
            raise OAuthError("invalid_scope", "the client may have nothing of what it asks for")
        return self._response(Grant(client, scopes), PROGRAM_LIFE)

    def _for_code(self, client: Client, form: Form, base_url: str) -> dict[str, Any]:
        found: list[Document | None] = []

        def spend(document: Document | None) -> Document | None:
            found[:] = [document]
            return None if document is None else {**document, "is_spent": True}

        self._store.amend(CODE, hashed(form.get("code", "")), spend)
        kept = found[0] if found else None
        if kept is None or kept["client"] != [client.client_id, client.generation]:
            raise OAuthError("invalid_grant", "the code is not good")
        if kept.get("is_spent"):
            # Who shows it a second time may not be who showed it first, or was.
            self._revoke_family(kept["family"])
            raise OAuthError("invalid_grant", "the code was used before")
        if form.get("redirect_uri") != kept["redirect_uri"]:
            raise OAuthError("invalid_grant", "redirect_uri is not that of the code")
        shown = sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(shown).decode().rstrip("=")
        if not compare_digest(challenge, kept["challenge"]):
            raise OAuthError("invalid_grant", "code_verifier is not that of the code")
        account = self._account(kept)
        scopes = tuple(kept["scopes"])
        grant = Grant(client, scopes, account, kept["patient"], kept["family"])
        response = self._response(grant, PERSON_LIFE)
        if "openid" in scopes:
            response["id_token"] = self._id_token(grant, base_url, kept["nonce"])
        life = next((span for word, span in _REFRESH_LIVES if word in scopes), None)
        if life is not None:
            secret = secrets.token_urlsafe(32)
            names = ("client", "account", "scopes", "patient")
            document = {"secret": hashed(secret), **{name: kept[name] for name in names}}
            self._store.keep(_REFRESH, kept["family"], document, self._now() + life)
            response["refresh_token"] = f"{kept['family']}.{secret}"
        return response

    def _for_refresh_token(self, client: Client, form: Form) -> dict[str, Any]:
        family, _, shown = form.get("refresh_token", "").partition(".")
        kept = self._store.look(_REFRESH, family)
        scopes: tuple[str, ...] = ()
        if kept is not None and self._is_theirs(kept, client, shown):
            # Before it is spent: who asks for too much may ask again for less.
            scopes = self._narrowed(kept, form.get("scope", ""))
        secret = secrets.token_urlsafe(32)
        found: list[Document | None] = []

        def turn(document: Document | None) -> Document | None:
            found[:] = [document]
            if document is None or not self._is_theirs(document, client, shown):
                return document
            return {**document, "secret": hashed(secret)}

        self._store.amend(_REFRESH, family, turn)
        kept = found[0] if found else None
        if kept is None or kept["client"] != [client.client_id, client.generation]:
            raise OAuthError("invalid_grant", "the refresh token is not good")
        if not self._is_theirs(kept, client, shown):
            # One that was used already: somebody has a copy.
            self._revoke_family(family)
            raise OAuthError("invalid_grant", "the refresh token was used before")
        grant = Grant(client, scopes, self._account(kept), kept["patient"], family)
        return {**self._response(grant, PERSON_LIFE), "refresh_token": f"{family}.{secret}"}

    def _is_theirs(self, kept: Document, client: Client, shown: str) -> bool:
        is_client = kept["client"] == [client.client_id, client.generation]
        return is_client and compare_digest(kept["secret"], hashed(shown))

    def _narrowed(self, kept: Document, asked: str) -> tuple[str, ...]:
        """What a refresh token is good for, or the part of it that is asked for.

        Raises:
            OAuthError: there is nothing left of it.
        """
        scopes = tuple(kept["scopes"])
        if asked:
            scopes = smart.narrow(asked, smart.parse_all(" ".join(scopes)), WORDS)
            scopes = tuple(each for each in scopes if "/" in each or each in kept["scopes"])
        # What the account may do was perhaps made less since.
        account = self._account(kept)
        scopes = smart.narrow(" ".join(scopes), smart.parse_all(account.scopes), WORDS)
        if not scopes:
            raise OAuthError("invalid_scope", "there is nothing left of what it may have")
        return scopes

    def _response(self, grant: Grant, life: timedelta) -> dict[str, Any]:
        response: dict[str, Any] = {
            "access_token": self._tokens.issue(grant, life),
            "token_type": "Bearer",
            "expires_in": int(life.total_seconds()),
            "scope": " ".join(grant.scopes),
        }
        if grant.patient:
            response["patient"] = grant.patient
        return response

    def _id_token(self, grant: Grant, base_url: str, nonce: str) -> str:
        assert grant.account is not None
        now = int(self._now().timestamp())
        claims: dict[str, Any] = {
            "iss": base_url.removesuffix("/fhir"),
            "aud": grant.client.client_id,
            "sub": grant.account.name,
            "iat": now,
            "exp": now + int(PERSON_LIFE.total_seconds()),
        }
        if nonce:
            claims["nonce"] = nonce
        if grant.account.fhir_user and {"fhirUser", "profile"} & set(grant.scopes):
            claims["fhirUser"] = f"{base_url}/{grant.account.fhir_user}"
        return self._keys.sign(claims, "JWT")

    def _account(self, kept: Document) -> Account:
        name, generation = kept["account"]
        account = self._registrations.active(Account, name)
        if account is None or account.generation != generation:
            raise OAuthError("invalid_grant", "the account was changed since")
        return account

    def _revoke_family(self, family: str) -> None:
        self._store.amend(_REFRESH, family, lambda _: None)
        self._tokens.revoke_family(family, PERSON_LIFE)
