"""Signed tokens (JWS, RFC 7515): read by keys and algorithms that the reader chose.

Nothing in a token's header chooses for us: its `alg` has to be on the list and fit the key,
its `kid` only picks among keys that are known; `jwk`, `jku` and `x5u` are not looked at.
"""

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey
from joserfc.registry import HeaderParameter

from fhir_server.core.security import claims as token_claims
from fhir_server.errors import Unauthenticated

LONGEST = 8 * 1024
"""A longer token is refused unread."""

_SMALLEST_RSA = 2_048
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}

PublicKey = RSAKey | ECKey


class UnknownKeyError(Unauthenticated):
    """No key that is known here has the token's `kid`: it may be a new one."""


class Header(NamedTuple):
    """What a token says of itself; nothing of it is proven."""

    algorithm: str
    key_id: str | None
    type: str


class _Registry(jws.JWSRegistry):
    """Other servers write headers that we need not know; `crit` is heeded all the same."""

    max_header_length = 2 * 1024
    max_payload_length = LONGEST

    def __init__(self, algorithms: Collection[str]) -> None:
        text = HeaderParameter("what sort of token", "str")
        super().__init__({"typ": text}, list(algorithms), strict_check_header=False)


def read_header(token: str) -> Header:
    """Raises `Unauthenticated`: it is no signed token."""
    if len(token) > LONGEST:
        raise Unauthenticated("the token is too long")
    parts = token.split(".")
    if len(parts) != 3 or not token.isascii() or not all(parts):
        raise Unauthenticated("the token is no signed token")
    header = _decode(parts[0])
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(algorithm, str) or not isinstance(kind, str):
        raise Unauthenticated("the token is no signed token")
    if key_id is not None and not isinstance(key_id, str):
        raise Unauthenticated("the token is no signed token")
    return Header(algorithm, key_id, kind)


def verify(token: str, keys: "Keys", algorithms: Collection[str]) -> Mapping[str, Any]:
    """The claims of a token that one of `keys` signed, by one of `algorithms`.

    Raises:
        UnknownKeyError: another key is named.
        Unauthenticated: anything else is wrong.
    """
    header = read_header(token)
    if header.algorithm not in algorithms:
        raise Unauthenticated("the token is signed by an algorithm that is not accepted")
    key = keys.find(header)
    try:
        content = jws.deserialize_compact(token, key, registry=_Registry(algorithms)).payload
    except (JoseError, ValueError, TypeError):
        raise Unauthenticated("the token's signature is not good") from None
    return token_claims.parse(content)


class Keys:
    """Public keys by their `kid`, of those kinds that sign."""

    def __init__(self, keys: Collection[PublicKey]) -> None:
        self._keys = tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, header: Header) -> PublicKey:
        """Raises `UnknownKeyError`, or `Unauthenticated` where the algorithm is not the key's."""
        if header.key_id is None and len(self._keys) == 1:
            key = self._keys[0]
        else:
            # Two servers may use one `kid` for keys of different kinds.
            named = [each for each in self._keys if each.kid == header.key_id]
            if header.key_id is None or not named:
                raise UnknownKeyError("the token's key is not known")
            key = next((each for each in named if _fits(each, header.algorithm)), named[0])
        if not _fits(key, header.algorithm):
            raise Unauthenticated("the token's algorithm is not its key's")
        return key


def parse_keys(document: object) -> Keys:
    """The signing keys of a JWKS; others in it (for encryption, secrets) are passed over.

    Raises:
        ValueError: it is no JWKS.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > 100:
        raise ValueError("a JWKS is an object with a list of keys")
    keys = []
    for each in listed:
        if isinstance(each, dict) and each.get("use", "sig") == "sig":
            key = _public_key(each)
            if key is not None:
                keys.append(key)
    return Keys(keys)


def _public_key(document: dict[str, Any]) -> PublicKey | None:
    try:
        if document.get("kty") == "RSA":
            # Looked at first: the library would warn, and take it.
            if len(_bytes(document["n"])) * 8 < _SMALLEST_RSA:
                return None
            return RSAKey.import_key(_parts(document, "n", "e"))
        if document.get("kty") == "EC" and document.get("crv") in _CURVES.values():
            return ECKey.import_key(_parts(document, "crv", "x", "y"))
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    return None


def _parts(document: dict[str, Any], *names: str) -> dict[str, Any]:
    """Of the public key alone, though the private one were sent with it."""
    return {n: document[n] for n in ("kty", "kid", "alg", *names) if n in document}


def _fits(key: PublicKey, algorithm: str) -> bool:
    if key.alg not in (None, algorithm):
        return False
    if isinstance(key, RSAKey):
        return algorithm[:2] in ("RS", "PS")
    return _CURVES.get(algorithm) == key.curve_name


def _decode(part: str) -> dict[str, Any]:
    try:
        return token_claims.parse(_bytes(part))
    except binascii.Error:
        raise Unauthenticated("the token is no signed token") from None


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
