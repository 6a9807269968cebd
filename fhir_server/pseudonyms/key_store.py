"""PseudonymKeys: a file of its own that alone can tell whose a pseudonym is (ADR 0031).

A patient's pseudonym is chance, another one for each recipient, and the row that ties the two
is sealed with a key from outside. Without the key the file tells neither who is in it, nor
whether two recipients know the same patient.
"""

import base64
import binascii
import hmac
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.deidentify import Masks
from fhir_server.errors import StoreUnavailable

_KEY_BYTES = 32
_NONCE_BYTES = 12
_APPLICATION_ID = 0x50534555
_PATIENT = "Patient"

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS known (
        name TEXT PRIMARY KEY,
        sealed BLOB NOT NULL
    ) WITHOUT ROWID, STRICT""",
    """CREATE TABLE IF NOT EXISTS pseudonym (
        finder BLOB PRIMARY KEY,
        recipient TEXT NOT NULL,
        pseudonym TEXT NOT NULL,
        sealed BLOB NOT NULL,
        UNIQUE (recipient, pseudonym)
    ) WITHOUT ROWID, STRICT""",
)


class Known(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed: whose a pseudonym is, and how many days their dates move."""

    patient: str
    days: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Known).decode


class PseudonymKeys:
    """The keys in the file at `path`; safe from any thread, and beside other processes."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Raises ValueError if the key is not the file's; StoreUnavailable if it is away."""
        self._lock = threading.Lock()
        self._seal = AESGCM(hmac.digest(key, b"seal", "sha256"))
        self._finding = hmac.digest(key, b"find", "sha256")
        self._masking = hmac.digest(key, b"mask", "sha256")
        with _told():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._path, self._file = path, _file_at(path)
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            self._connection.execute("PRAGMA synchronous = FULL")
            found = self._connection.execute("PRAGMA application_id").fetchone()[0]
            if found not in (0, _APPLICATION_ID):
                self._connection.close()
                raise ValueError("the file of pseudonyms is another program's")
            for statement in (*_SCHEMA, f"PRAGMA application_id = {_APPLICATION_ID}"):
                self._connection.execute(statement)
        try:
            self._check_key()
        except ValueError:
            self._connection.close()
            raise

    def pseudonym(self, recipient: str, patient: ResourceKey, most_days: int) -> tuple[str, int]:
        """What `recipient` knows a patient by, and the days that their dates move; durable.

        The days are chosen once, up to `most_days` either way.
        """
        finder = self._finder(recipient, str(patient))
        with self._lock, _told():
            self._check_file()
            row = self._find(finder)
            if row is None:
                made = secrets.token_hex(16)
                sealed = self._sealed(
                    _encode(Known(str(patient), _draw_days(most_days))), f"{recipient}|{made}"
                )
                # Two processes may see the patient for the first time: one of them is first.
                self._connection.execute(
                    "INSERT INTO pseudonym (finder, recipient, pseudonym, sealed) "
                    "VALUES (?, ?, ?, ?) ON CONFLICT (finder) DO NOTHING",
                    (finder, recipient, made, sealed),
                )
                row = self._find(finder)
            if row is None:
                raise StoreUnavailable("a pseudonym could not be kept")
        name, sealed = row
        return name, self._known(sealed, recipient, name).days

    def patient(self, recipient: str, pseudonym: str) -> ResourceKey | None:
        """Whose a pseudonym is; None: nobody's whom the recipient knows."""
        with self._lock, _told():
            self._check_file()
            row = self._connection.execute(
                "SELECT sealed FROM pseudonym WHERE recipient = ? AND pseudonym = ?",
                (recipient, pseudonym),
            ).fetchone()
        if row is None:
            return None
        resource_type, _, resource_id = self._known(row[0], recipient, pseudonym).patient.partition(
            "/"
        )
        return ResourceKey(resource_type, resource_id)

    def masks(self, recipient: str, most_days: int) -> Masks:
        """What `recipient` knows things by. What is no patient needs no row: it is never asked
        back.
        """

        def name(key: ResourceKey) -> str:
            if key.resource_type == _PATIENT:
                return self.pseudonym(recipient, key, most_days)[0]
            return digest(str(key))[:32]

        def days(key: ResourceKey) -> int:
            # Of what belongs to nobody dates move as if it were somebody.
            return self.pseudonym(recipient, key, most_days)[1]

        def digest(text: str) -> str:
            said = f"{recipient}\0{text}".encode()
            return hmac.digest(self._masking, said, "sha256").hex()

        return Masks(name, days, digest)

    def close(self) -> None:
        self._connection.close()

    def _find(self, finder: bytes) -> tuple[str, bytes] | None:
        row: tuple[str, bytes] | None = self._connection.execute(
            "SELECT pseudonym, sealed FROM pseudonym WHERE finder = ?", (finder,)
        ).fetchone()
        return row

    def _finder(self, recipient: str, patient: str) -> bytes:
        return hmac.digest(self._finding, f"{recipient}\0{patient}".encode(), "sha256")

    def _sealed(self, text: bytes, bound_to: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._seal.encrypt(nonce, text, bound_to.encode())

    def _opened(self, sealed: bytes, bound_to: str) -> bytes:
        nonce, text = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._seal.decrypt(nonce, text, bound_to.encode())
        except InvalidTag:
            raise ValueError(
                "FHIR_SERVER_PSEUDONYM_KEY is not the key of this file, or it was changed"
            ) from None

    def _known(self, sealed: bytes, recipient: str, pseudonym: str) -> Known:
        return _decode(self._opened(sealed, f"{recipient}|{pseudonym}"))

    def _check_file(self) -> None:
        """What was moved away or replaced can still be written to, and nobody else reads it."""
        if _file_at(self._path) != self._file:
            raise StoreUnavailable("the keys of pseudonyms are another file now: restart")

    def _check_key(self) -> None:
        with _told():
            self._connection.execute(
                "INSERT INTO known (name, sealed) VALUES ('key', ?) ON CONFLICT (name) DO NOTHING",
                (self._sealed(b"key", "key"),),
            )
            row = self._connection.execute("SELECT sealed FROM known WHERE name = 'key'").fetchone()
        self._opened(row[0], "key")


def parse_key(text: str) -> bytes:
    """The key from outside, in base64.

    Raises:
        ValueError: it is missing, no base64, or not of 32 bytes. The value is not told.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise ValueError(
            "FHIR_SERVER_PSEUDONYM_KEY: 32 bytes in base64 are needed: openssl rand -base64 32"
        )
    return key


def _file_at(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _draw_days(most: int) -> int:
    """Never none: whoever knows one true date must not know all."""
    if most == 0:
        return 0
    drawn = secrets.randbelow(2 * most) - most
    return drawn if drawn < 0 else drawn + 1


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        name = getattr(error, "sqlite_errorname", None) or type(error).__name__
        raise StoreUnavailable(f"the keys of pseudonyms cannot be used now ({name})") from error
