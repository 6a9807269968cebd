"""Page tokens: where a search goes on, sealed, so that a link tells nothing and bears no change.

A token holds the whole search (its parameters may be a patient's identifier, its sort
values a birth date), so that any process continues it, also after a restart and also by
GET after a POST. A long one is compressed, all are encrypted with AES-256-GCM (`cryptography`):
ciphers are not written by hand here. Its key is derived from the server's secret and 16
random bytes, which a process renews before that key is worn out; tokens of one key are
numbered, so that no nonce comes twice.

A search of very many values makes a long token, in proportion to what the client sent.
"""

import base64
import binascii
import hmac
import zlib
from functools import lru_cache
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.core.search.query import Cursor
from fhir_server.errors import InvalidSearch

_KEY_BYTES, _NUMBER_BYTES = 16, 8
NONCE_BYTES = _KEY_BYTES + _NUMBER_BYTES
MAX_TOKEN_LENGTH = 100_000
_MAX_STATE_BYTES = 2_000_000
# Making less smaller costs more than the rest of the token.
_SHORT_STATE = 400
_JSON_ARRAY = b"["

_FORMAT = b"\x02"
_PURPOSE = b"fhir-server page token 2"
_NAMING = b"fhir-server kept search 1"
_GCM_PADDING = bytes(12 - _NUMBER_BYTES)
_TAG_BYTES = 16


class PageState(NamedTuple):
    """What the next page needs to know.

    `resource_type` is None where all types are meant. `params` are those applied.
    `issued` is when the first page was made, in seconds since 1970: links expire by it.
    `total` was counted then. With `is_backward` the page ends before the cursor.
    """

    resource_type: str | None
    params: tuple[tuple[str, str], ...]
    cursor: Cursor
    as_of: int
    issued: int
    total: int | None = None
    is_backward: bool = False


_states = msgspec.json.Decoder(PageState)
_encode = msgspec.json.Encoder().encode


def encode(state: PageState, secret: bytes, nonce: bytes, bound_to: str = "") -> str:
    """A token of URL-safe characters.

    `secret` is at least 16 bytes that all processes share; `nonce` is `NONCE_BYTES`, 16
    random ones and a number of 8 that never came with those before. Only who gives the same
    `bound_to` (the principal's name) can use the token.
    """
    if len(nonce) != NONCE_BYTES:
        raise ValueError(f"a nonce has {NONCE_BYTES} bytes")
    text = _encode(state)
    if len(text) > _SHORT_STATE:
        text = zlib.compress(text)
    key, number = nonce[:_KEY_BYTES], nonce[_KEY_BYTES:]
    sealed = _cipher(secret, key).encrypt(_GCM_PADDING + number, text, _context(bound_to))
    return base64.urlsafe_b64encode(_FORMAT + nonce + sealed).rstrip(b"=").decode()


def name_of(params: tuple[tuple[str, str], ...], secret: bytes, bound_to: str = "") -> str:
    """A name for `params` that tells nothing of them to who does not have `secret`."""
    text = msgspec.json.encode((bound_to, params))
    return hmac.digest(secret, _NAMING + text, "sha256").hex()


def decode(
    token: str, secret: bytes, bound_to: str = "", *, longest: int = MAX_TOKEN_LENGTH
) -> PageState:
    """What `encode` sealed with the same `secret` and `bound_to`.

    Raises:
        InvalidSearch: it is no token of ours, was changed, or is somebody else's.
    """
    refused = InvalidSearch("not a page link of this server")
    if len(token) > longest or not token.isascii():
        raise refused
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refused from None
    nonce, sealed = raw[1 : 1 + NONCE_BYTES], raw[1 + NONCE_BYTES :]
    if raw[:1] != _FORMAT or len(sealed) < _TAG_BYTES:
        raise refused
    try:
        cipher = _cipher(secret, nonce[:_KEY_BYTES])
        text = cipher.decrypt(_GCM_PADDING + nonce[_KEY_BYTES:], sealed, _context(bound_to))
    except InvalidTag:
        raise refused from None
    try:
        if not text.startswith(_JSON_ARRAY):
            text = zlib.decompressobj().decompress(text, _MAX_STATE_BYTES)
        return _states.decode(text)
    except (zlib.error, msgspec.DecodeError):
        # Sealed by a version of this program that kept other things.
        raise refused from None


@lru_cache(maxsize=64)
def _cipher(secret: bytes, key: bytes) -> AESGCM:
    if len(secret) < _KEY_BYTES:
        raise ValueError(f"the secret of page links has at least {_KEY_BYTES} bytes")
    return AESGCM(hmac.digest(secret, _PURPOSE + key, "sha256"))


def _context(bound_to: str) -> bytes:
    return _FORMAT + bound_to.encode()
