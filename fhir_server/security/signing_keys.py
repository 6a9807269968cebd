"""SigningKeys: the private keys that this server signs its tokens with, shared by its processes."""

import json
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

from fhir_server.security.signed_token import Keys
from fhir_server.store.security.protocol import Document, SecurityStore

ALGORITHM = "ES256"

_KIND, _NAME = "signing-keys", "ring"
_AGE = timedelta(days=90)
# Longer than any token lasts.
_KEPT = _AGE + timedelta(days=2)


class SigningKeys:
    """Newest first. One is made when there is none, and another when it is three months old."""

    def __init__(self, store: SecurityStore, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._loaded: tuple[tuple[ECKey, float], ...] = ()

    @property
    def server_id(self) -> str:
        """The name of this server where it has no address that is sure."""
        document = self._store.find(_KIND, _NAME) or self._turn(is_forced=False)
        return f"urn:fhir-server:{document['server']}"

    def sign(self, claims: dict[str, Any], kind: str) -> str:
        """A token with `kind` as its `typ`."""
        if not self._loaded or self._is_old(self._loaded[0][1]):
            self._load(self._turn(is_forced=False))
        key = self._loaded[0][0]
        header = {"alg": ALGORITHM, "kid": key.kid, "typ": kind}
        return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[ALGORITHM])

    def keys(self) -> Keys:
        """All that a token which is not over may be signed with."""
        if not self._loaded:
            self.reload()
        return Keys([key for key, _ in self._loaded])

    def public(self) -> dict[str, Any]:
        """As a JWKS."""
        self.reload()
        marks = {"use": "sig", "alg": ALGORITHM}
        return {"keys": [key.as_dict(private=False) | marks for key, _ in self._loaded]}

    def reload(self) -> None:
        """As the store has them: another process may have made one."""
        self._load(self._store.find(_KIND, _NAME) or self._turn(is_forced=False))

    def rotate(self) -> None:
        """A new one from now on; tokens of the one before stay good."""
        self._load(self._turn(is_forced=True))

    def _turn(self, *, is_forced: bool) -> Document:
        made = ECKey.generate_key("P-256", {"kid": secrets.token_urlsafe(9)}).as_dict(private=True)
        server = secrets.token_hex(16)

        def decide(found: Document | None) -> Document:
            now = self._now().timestamp()
            ring = found or {"server": server, "keys": []}
            # Another process may have been quicker.
            if is_forced or not ring["keys"] or self._is_old(ring["keys"][0]["made"]):
                oldest = now - _KEPT.total_seconds()
                others = [each for each in ring["keys"] if each["made"] > oldest]
                ring["keys"] = [{"made": now, "key": made}, *others]
            return ring

        document = self._store.change(_KIND, _NAME, decide)
        assert document is not None
        return document

    def _load(self, ring: Document) -> None:
        self._loaded = tuple(
            (ECKey.import_key(each["key"]), float(each["made"])) for each in ring["keys"]
        )

    def _is_old(self, made: float) -> bool:
        return self._now().timestamp() - made > _AGE.total_seconds()
