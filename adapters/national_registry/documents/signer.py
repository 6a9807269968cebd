"""The signer port, and OpenSSL behind it: detached CMS signatures, RSA or GOST.

The file never touches the disk: it goes in by a pipe and the signature comes out by one.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple, Protocol

from fhir_server.errors import DeliveryDeferred, DeliveryRejected

_SECONDS = 20.0

# A private configuration: the machine's own need not know of the engine.
ENGINE = """openssl_conf = conf
[conf]
engines = engines
[engines]
gost = gost
[gost]
engine_id = gost
default_algorithms = ALL
"""

_DIGESTS = {"rsa": "sha256", "gost": "md_gost12_256"}
ALGORITHMS = tuple(_DIGESTS)


class KeyPair(NamedTuple):
    """Files in PEM. `password_file` holds the key's password in its first line."""

    certificate: Path
    key: Path
    password_file: Path | None = None


class Signer(Protocol):
    """Signs with the key of one person or organization."""

    def sign(self, content: bytes, pair: KeyPair) -> bytes:
        """A detached CMS signature in DER.

        Raises:
            DeliveryDeferred: the tool is away or too slow.
            DeliveryRejected: the key or the certificate does not do.
        """
        ...


class OpensslSigner:
    """`openssl cms -sign`; `algorithm` is "rsa" or "gost" (R 34.10-2012, 256 bits)."""

    def __init__(self, algorithm: str = "rsa", command: str = "openssl") -> None:
        self._digest = _DIGESTS[algorithm]
        self._is_gost = algorithm == "gost"
        self._command = command

    def sign(self, content: bytes, pair: KeyPair) -> bytes:
        arguments = [
            *("cms", "-sign", "-binary", "-outform", "DER", "-md", self._digest),
            *("-signer", str(pair.certificate), "-inkey", str(pair.key)),
        ]
        if pair.password_file is not None:
            arguments += ["-passin", f"file:{pair.password_file}"]
        with tempfile.TemporaryDirectory(prefix="fhir-signer-") as folder:
            # Nothing of our own environment: it may hold secrets.
            environment = {"PATH": "/usr/bin:/bin:/usr/local/bin"}
            if self._is_gost:
                configuration = Path(folder) / "openssl.cnf"
                configuration.write_text(ENGINE)
                environment["OPENSSL_CONF"] = str(configuration)
            return self._run(arguments, environment, content)

    def _run(self, arguments: list[str], environment: dict[str, str], content: bytes) -> bytes:
        try:
            done = subprocess.run(  # noqa: S603 - our own arguments, no shell
                [self._command, *arguments],
                input=content,
                env=environment,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            raise DeliveryDeferred("the signer did not answer") from None
        if done.returncode or not done.stdout:
            raise DeliveryRejected("the signer refused: look at its key, certificate and engine")
        return done.stdout


def is_gost_available(command: str = "openssl") -> bool:
    """Whether the GOST engine can be loaded."""
    try:
        done = subprocess.run(  # noqa: S603 - as above
            [command, "engine", "gost"], capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
