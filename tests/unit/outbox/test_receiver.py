"""A receiver's settings, its refusals, and our certificate."""

import shutil
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime

import pytest

from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.receiver import read_receiver
from fhir_server.outbox.section import Section
from fhir_server.outbox.sink import Access

NOW = datetime(2026, 10, 5, tzinfo=UTC)


def receiver(**section):
    access = Access(None, lambda: NOW, allow_private_endpoints=True)
    fields = Section("x", {"url": "https://localhost/fhir", **section})
    made = read_receiver("the receiver", fields, access)
    fields.check_all_known()
    return made


OAUTH = {"token_url": "https://localhost/token", "client_id": "me"}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"url": "ftp://x"}, "no http or https"),
        ({"headers": {"X": 1}}, "adapters.x.headers must be a table of texts"),
        ({"oauth": {"client_id": "me"}}, "adapters.x.oauth.token_url is missing"),
        ({"oauth": OAUTH}, "adapters.x.oauth.key_file must be set, or client_secret"),
        ({"oauth": {**OAUTH, "client_secret": "s", "key_file": "k"}}, "not both"),
        ({"oauth": {**OAUTH, "key_file": "/nowhere"}}, "there is no such private key"),
        ({"oauth": {**OAUTH, "client_secret": "s", "algorithm": "none"}}, "must be one of"),
        ({"oauth": {**OAUTH, "client_secret": "s", "more": 1}}, "unknown settings: more"),
        ({"ca_file": "/nowhere"}, "adapters.x.ca_file must be a file that is there"),
        ({"certificate_file": __file__}, "set with certificate_file"),
        ({"total_seconds": 61}, "at most 60"),
    ],
)
def test_a_wrong_setting_is_named_and_not_quoted(section, said):
    with pytest.raises(ValueError, match=said) as refused:
        receiver(**section)
    assert "/nowhere" not in str(refused.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program")
    folder = tmp_path_factory.mktemp("certificates")
    for name in ("localhost", "client"):
        command = [
            *(openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")),
        ]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def hospital(certificates):
    """A TLS server that answers only to whom it knows by a certificate; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "localhost.pem", certificates / "localhost.key")
    context.load_verify_locations(certificates / "client.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        try:
            accepted, _ = listening.accept()
            with context.wrap_socket(accepted, server_side=True) as connection:
                connection.recv(65_536)
                who = dict(part[0] for part in connection.getpeercert()["subject"])
                body = who["commonName"].encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
                connection.sendall(body)
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    listening.close()
    thread.join(5)


def test_our_certificate_proves_who_we_are(certificates, hospital):
    made = receiver(
        url=f"https://localhost:{hospital}/fhir",
        ca_file=str(certificates / "localhost.pem"),
        certificate_file=str(certificates / "client.pem"),
        certificate_key_file=str(certificates / "client.key"),
    )
    assert made.send("GET", "metadata").body == b"client"
    made.close()


def test_without_a_certificate_nothing_is_sent(certificates, hospital):
    made = receiver(
        url=f"https://localhost:{hospital}/fhir", ca_file=str(certificates / "localhost.pem")
    )
    with pytest.raises(DeliveryDeferred):
        made.send("GET", "metadata")
    made.close()
