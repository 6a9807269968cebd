"""A broker: where it is and how one proves who one is."""

import ssl
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class Broker(NamedTuple):
    """`tls` is None where the connection is open for all to read."""

    host: str
    port: int
    user: str
    password: str
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        return f"{'mqtt' if self.tls is None else 'mqtts'}://{self.host}:{self.port}"


class Certificates(NamedTuple):
    """Files in PEM: whom we believe, and who we are; None is the system's and nobody."""

    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def parse_broker(url: str, password: str, certificates: Certificates) -> Broker:
    """``mqtts://user@host:port``.

    Raises:
        ValueError: it is none, or holds a password, or a file of `certificates` is none.
    """
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the broker's port is no number up to 65535") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("a broker is written mqtts://user@host:port, or mqtt://")
    if parts.password is not None:
        # It would stand in the list of processes.
        raise ValueError("the broker's password belongs into FHIR_SERVER_MQTT_PASSWORD")
    is_open = parts.scheme == "mqtt"
    if is_open and any(certificates):
        raise ValueError("certificates are for mqtts://")
    return Broker(
        parts.hostname,
        port or _PORTS[parts.scheme],
        unquote(parts.username or ""),
        password,
        None if is_open else _tls(certificates),
    )


def _tls(certificates: Certificates) -> ssl.SSLContext:
    authority, certificate, key = certificates
    try:
        context = ssl.create_default_context(cafile=authority)
    except OSError as error:
        raise ValueError(f"{authority}: {error.strerror or 'no certificates in PEM'}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is None:
        if key is not None:
            raise ValueError("a key is of a certificate: name it too")
        return context
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "no certificate and key in PEM"
        raise ValueError(f"{certificate}: {said}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")
