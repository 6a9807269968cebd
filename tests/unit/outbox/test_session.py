"""HTTP to a receiver that may be slow, endless, elsewhere or not there."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.session import OutboundSession, Timeouts

OPEN = OutboundPolicy(allow_private=True)


BODY = b"{}"


def read_request(connection):
    """The whole request: closing before the body is read would cut the answer off."""
    received = b""
    while not received.endswith(BODY):
        part = connection.recv(65_536)
        if not part:
            break
        received += part
    return received


@contextmanager
def receiver(answer, reads=True):
    """A socket that reads one request a connection and hands the connection to `answer`."""
    listening = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()
    accepted = []

    def serve():
        while not done.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            accepted.append(connection)
            with connection:
                if not reads or read_request(connection):
                    try:
                        answer(connection, done)
                    except OSError:
                        continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/", accepted
    finally:
        done.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


@pytest.fixture
def session():
    opened = OutboundSession(OPEN, Timeouts(1.0, 1.0, 1.5), max_answer_bytes=1_000)
    yield opened
    opened.close()


def post(session, url):
    return session.request("POST", url, {"X-Test": "1"}, BODY)


def test_an_answer_comes_back_whole(session):
    def answer(connection, _):
        connection.sendall(b"HTTP/1.1 201 Created\r\nETag: W/1\r\nContent-Length: 2\r\n\r\nok")

    with receiver(answer) as (url, _):
        got = post(session, url)
    assert (got.status, got.headers["etag"], got.body) == (201, "W/1", b"ok")


def test_a_redirect_is_not_followed(session):
    def answer(connection, _):
        connection.sendall(
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
        )

    with receiver(answer) as (url, accepted):
        assert post(session, url).status == 302
        assert len(accepted) == 1


def drip(head):
    def answer(connection, done):
        connection.sendall(head)
        while not done.wait(0.2):
            connection.sendall(b"x")

    return answer


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nX-A: ", b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n"]
)
def test_a_receiver_that_drips_is_cut_at_the_deadline(session, head):
    with receiver(drip(head)) as (url, _):
        begun = time.monotonic()
        with pytest.raises(DeliveryDeferred):
            post(session, url)
        assert time.monotonic() - begun < 4


def test_a_receiver_that_says_nothing_is_given_up(session):
    with (
        receiver(lambda _, done: done.wait(10)) as (url, _),
        pytest.raises(DeliveryDeferred, match="in time"),
    ):
        post(session, url)


def test_an_answer_cut_short_is_no_answer(session):
    def answer(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    with receiver(answer) as (url, _), pytest.raises(DeliveryDeferred, match="cut"):
        post(session, url)


def test_an_endless_answer_is_not_read_to_its_end(session):
    def answer(connection, done):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not done.is_set():
            connection.sendall(b"x" * 10_000)

    with receiver(answer) as (url, _), pytest.raises(DeliveryDeferred, match="too long"):
        post(session, url)


def test_nobody_listening_is_a_deferral(session):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DeliveryDeferred, match="connection"):
        post(session, f"http://127.0.0.1:{port}/")


def test_a_name_is_checked_by_the_address_it_has_when_connecting(monkeypatch):
    looked_up = []

    def resolve(host, port, **_):
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    session = OutboundSession(OutboundPolicy(), Timeouts(1.0, 1.0, 2.0))
    with pytest.raises(DeliveryDeferred, match="not public"):
        post(session, "https://registry.example/")
    assert looked_up == ["registry.example"]
    session.close()


def test_closing_cuts_what_is_under_way():
    session = OutboundSession(OPEN, Timeouts(5.0, 30.0, 40.0))
    with receiver(lambda _, done: done.wait(30)) as (url, accepted):
        failed = []

        def send():
            try:
                post(session, url)
            except DeliveryDeferred as deferred:
                failed.append(deferred)

        sending = threading.Thread(target=send)
        sending.start()
        while not accepted:
            time.sleep(0.01)
        time.sleep(0.1)
        session.close()
        sending.join(5)
        assert failed
        with pytest.raises(DeliveryDeferred, match="stopping"):
            post(session, url)


def test_proxies_of_the_environment_are_not_used(session, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    def answer(connection, _):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with receiver(answer) as (url, _):
        assert post(session, url).status == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for localhost and its key, made by OpenSSL's own program."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-addext", "keyUsage=digitalSignature,keyCertSign"),
            *("-out", made, "-keyout", key),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


@contextmanager
def tls_receiver(certificate, answer):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)

    def handshake(connection, done):
        with context.wrap_socket(connection.dup(), server_side=True) as secured:
            read_request(secured)
            answer(secured, done)

    with receiver(handshake, reads=False) as (url, accepted):
        yield url.replace("http://127.0.0.1", "https://localhost"), accepted


def ok(connection, _):
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def tls_session(certificate=None):
    ca_file = str(certificate[0]) if certificate else None
    return OutboundSession(OPEN, Timeouts(3.0, 3.0, 3.0), ca_file=ca_file)


def test_a_receivers_own_certificate_authority_is_accepted(certificate):
    session = tls_session(certificate)
    with tls_receiver(certificate, ok) as (url, _):
        assert post(session, url).body == b"ok"
    session.close()


def test_a_certificate_of_nobody_known_is_not_accepted(certificate):
    session = tls_session()
    with (
        tls_receiver(certificate, ok) as (url, _),
        pytest.raises(DeliveryDeferred, match="certificate"),
    ):
        post(session, url)
    session.close()


def test_a_receiver_that_drips_over_tls_is_cut_at_the_deadline(certificate):
    session = tls_session(certificate)
    with tls_receiver(certificate, drip(b"HTTP/1.1 200 OK\r\nX-A: ")) as (url, _):
        begun = time.monotonic()
        with pytest.raises(DeliveryDeferred, match="in time"):
            post(session, url)
        assert time.monotonic() - begun < 10
    session.close()
