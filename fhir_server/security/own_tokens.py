"""OwnTokens: access tokens that this server gives out, and reads again.

https://www.rfc-editor.org/rfc/rfc9068
"""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhir_server.core.security import claims as token_claims
from fhir_server.core.security.principal import Principal
from fhir_server.core.security.registration import Account, Client
from fhir_server.errors import Unauthenticated
from fhir_server.security.registrations import Registrations
from fhir_server.security.signed_token import UnknownKeyError, read_header, verify
from fhir_server.security.signing_keys import ALGORITHM, SigningKeys
from fhir_server.store.security.protocol import SecurityStore

KIND = "at+jwt"

REVOKED_FAMILY = "revoked-family"
"""All that came of one sign-in."""

_REVOKED = "revoked-token"


class Verified(NamedTuple):
    """`until` is in seconds of the epoch."""

    principal: Principal
    until: float


class Grant(NamedTuple):
    """What a token shall say. `account` is who signed in, None for a program by itself."""

    client: Client
    scopes: tuple[str, ...]
    account: Account | None = None
    patient: str = ""
    family: str = ""


class OwnTokens:
    """`issuer` stands in them, and is whom they are for. Calls may wait for the store."""

    def __init__(
        self,
        issuer: str,
        keys: SigningKeys,
        registrations: Registrations,
        store: SecurityStore,
        now: Callable[[], datetime],
    ) -> None:
        self._issuer = issuer
        self._keys = keys
        self._registrations = registrations
        self._store = store
        self._now = now

    def issue(self, grant: Grant, life: timedelta) -> str:
        now = int(self._now().timestamp())
        account = grant.account
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": grant.client.client_id if account is None else account.name,
            "client_id": grant.client.client_id,
            "scope": " ".join(grant.scopes),
            "iat": now,
            "exp": now + int(life.total_seconds()),
            "jti": secrets.token_urlsafe(16),
            "generation": [grant.client.generation, 0 if account is None else account.generation],
        }
        purposes = grant.client.purposes if account is None else account.purposes
        optional = {
            "fhirUser": "" if account is None else account.fhir_user,
            "account": "" if account is None else account.name,
            "patient": grant.patient,
            "purposes": list(purposes),
            "family": grant.family,
        }
        claims |= {name: value for name, value in optional.items() if value}
        return self._keys.sign(claims, KIND)

    def read(self, token: str) -> Verified:
        """Raises `Unauthenticated`: it is none of ours, is over, or was taken back."""
        if read_header(token).type != KIND:
            # An id_token, or an assertion, that was signed by us or looks so.
            raise Unauthenticated("the token is no access token")
        claims = self._claims(token)
        until = token_claims.check(claims, self._issuer, (self._issuer,), self._now().timestamp())
        return Verified(token_claims.principal_of(claims, self._roles(claims)), until)

    def revoke(self, token: str, client_id: str) -> None:
        """Take back one that was given to this client; anything else is passed over."""
        try:
            verified = self.read(token)
        except Unauthenticated:
            return
        if verified.principal.client_id == client_id:
            until = datetime.fromtimestamp(verified.until, self._now().tzinfo)
            self._forget(_REVOKED, verified.principal.token_id, until)

    def revoke_family(self, family: str, life: timedelta) -> None:
        """Take back what came of one sign-in; `life` is the longest of such a token."""
        self._forget(REVOKED_FAMILY, family, self._now() + life)

    def _forget(self, kind: str, name: str, until: datetime) -> None:
        self._store.keep(kind, name, {}, until)
        # A new revision: who has looked at the token before has to look again.
        self._store.change(kind, "last", lambda _: {})

    def _claims(self, token: str) -> Mapping[str, Any]:
        try:
            return verify(token, self._keys.keys(), (ALGORITHM,))
        except UnknownKeyError:
            self._keys.reload()
            return verify(token, self._keys.keys(), (ALGORITHM,))

    def _roles(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """The roles of whom it was given to, who still are who they were then."""
        client = self._registrations.active(Client, claims["client_id"])
        generation = [client.generation if client else -1, 0]
        roles = client.roles if client else ()
        if name := claims.get("account"):
            account = self._registrations.active(Account, name)
            generation[1] = account.generation if account else -1
            roles = account.roles if account else ()
        family = claims.get("family", "")
        if (
            generation != claims["generation"]
            or self._store.look(_REVOKED, claims["jti"]) is not None
            or (family and self._store.look(REVOKED_FAMILY, family) is not None)
        ):
            raise Unauthenticated("the token was taken back")
        return roles
