"""Who we are to a receiver: fixed headers, or a bearer token fetched with client credentials.

OAuth 2.0 client credentials, with a secret or a signed assertion (RFC 6749 4.4, RFC 7523,
as SMART backend services has it: https://hl7.org/fhir/smart-app-launch/backend-services.html).
"""

import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.session import OutboundSession

_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_LIFE = timedelta(minutes=4)
# A token is not used in its last moments: on the way it could run out.
_MARGIN = timedelta(seconds=30)
_DEFAULT_LIFE = 300


class Credentials(Protocol):
    """What to say in every request that tells who is asking."""

    def headers(self) -> Mapping[str, str]:
        """May ask a token endpoint first.

        Raises:
            DeliveryDeferred: no token could be had now.
        """
        ...

    def renew(self) -> bool:
        """The receiver did not know us: whether asking again can help."""
        ...

    def close(self) -> None: ...


class FixedHeaders:
    """Headers from the settings; none for a receiver that knows us by our certificate."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = dict(headers)

    def headers(self) -> Mapping[str, str]:
        return self._headers

    def renew(self) -> bool:
        return False

    def close(self) -> None:
        """There is nothing to let go of."""


class Secret:
    """`client_secret_basic`: the secret goes with every token request."""

    def __init__(self, client_id: str, secret: str) -> None:
        # RFC 6749 2.3.1: both are form-encoded before they are put together.
        pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
        self._basic = b64encode(pair.encode()).decode()

    def prove(self, _token_url: str, _now: datetime) -> tuple[dict[str, str], dict[str, str]]:
        return {"Authorization": f"Basic {self._basic}"}, {}


class SigningKey:
    """`private_key_jwt`: a short-lived assertion signed with a key that never leaves.

    Raises:
        ValueError: the file holds no RSA or EC private key, in PEM or as a JWK.
    """

    def __init__(self, client_id: str, key_file: Path, algorithm: str, key_id: str) -> None:
        self._client_id = client_id
        self._header = {"alg": algorithm, "typ": "JWT", **({"kid": key_id} if key_id else {})}
        self._key = _load_key(key_file, algorithm)
        self._algorithm = algorithm

    def prove(self, token_url: str, now: datetime) -> tuple[dict[str, str], dict[str, str]]:
        claims = {
            "iss": self._client_id,
            "sub": self._client_id,
            "aud": token_url,
            "iat": int(now.timestamp()),
            "exp": int((now + _ASSERTION_LIFE).timestamp()),
            "jti": secrets.token_urlsafe(24),
        }
        assertion = jwt.encode(self._header, claims, self._key, algorithms=[self._algorithm])
        return {}, {
            "client_id": self._client_id,
            "client_assertion_type": _ASSERTION,
            "client_assertion": assertion,
        }


class ClientCredentials:
    """A bearer token, fetched when it is needed and kept until shortly before its end."""

    def __init__(
        self,
        session: OutboundSession,
        token_url: str,
        proof: Secret | SigningKey,
        scope: str,
        now: Callable[[], datetime],
    ) -> None:
        self._session = session
        self._token_url = token_url
        self._proof = proof
        self._scope = scope
        self._now = now
        self._token = ""
        self._until = now()

    def headers(self) -> Mapping[str, str]:
        if not self._token or self._now() >= self._until:
            self._fetch()
        return {"Authorization": f"Bearer {self._token}"}

    def renew(self) -> bool:
        self._token = ""
        return True

    def close(self) -> None:
        self._session.close()

    def _fetch(self) -> None:
        asked_at = self._now()
        headers, form = self._proof.prove(self._token_url, asked_at)
        form = {"grant_type": "client_credentials", **form}
        if self._scope:
            form["scope"] = self._scope
        headers |= {
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        answer = self._session.request("POST", self._token_url, headers, urlencode(form).encode())
        token = _token(answer.body) if answer.status == 200 else None
        if token is None:
            # Not what it says: an error may quote what it was sent.
            raise DeliveryDeferred(f"the token endpoint answered {answer.status} without a token")
        self._token, life = token
        self._until = asked_at + timedelta(seconds=life) - min(_MARGIN, timedelta(seconds=life / 2))


def _token(body: bytes) -> tuple[str, int] | None:
    try:
        answer: Any = json.loads(body)
        token, kind = answer["access_token"], answer.get("token_type", "bearer")
        life = int(answer.get("expires_in", _DEFAULT_LIFE))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    is_bearer = isinstance(kind, str) and kind.lower() == "bearer"
    is_header = isinstance(token, str) and token.isascii() and token.isprintable()
    return (token, max(life, 0)) if is_bearer and is_header and token else None


def _load_key(path: Path, algorithm: str) -> RSAKey | ECKey:
    kind = ECKey if algorithm.startswith("ES") else RSAKey
    try:
        content = path.read_bytes()
        value = json.loads(content) if content.lstrip().startswith(b"{") else content
        key: RSAKey | ECKey = kind.import_key(value)
    except (OSError, ValueError, JoseError, TypeError):
        raise ValueError("there is no such private key") from None
    if not key.is_private:
        raise ValueError("the key is not a private one")
    return key
