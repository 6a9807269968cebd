import itertools
import socket
import threading
from contextlib import contextmanager

import pytest

from bench.http_load import Address, UnexpectedAnswer, in_turn, page_by_page, run

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
FAILING = b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops"


@contextmanager
def answering(answer):
    """A server on a port that answers each request with `answer(request)`; what it was asked."""
    asked = []

    def serve(connection):
        with connection:
            while request := connection.recv(65_536):
                asked.append(request)
                said = answer(request)
                connection.sendall(said)
                if b"Connection: close" in said:
                    return

    def accept(listening):
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, args=(listening,), daemon=True)
        thread.start()
        try:
            yield Address("127.0.0.1", listening.getsockname()[1], "/fhir"), asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, CLOSING])
def test_every_request_is_sent_once_however_answers_are_framed(answer):
    with answering(lambda _: answer) as (address, asked):
        requests = (address.request("GET", f"Patient/{n}") for n in range(50))
        measured = run(address, in_turn(requests), 4).check(200)
    assert measured.requests == 50
    assert measured.body == b"{}"
    paths = {request.split()[1] for request in asked}
    assert paths == {f"/fhir/Patient/{n}".encode() for n in range(50)}


def test_a_fast_error_is_no_result():
    with answering(lambda _: FAILING) as (address, _):
        measured = run(address, in_turn(iter([address.request("GET", "Patient/1")])), 1)
    with pytest.raises(UnexpectedAnswer, match=r"500.*oops"):
        measured.check(200)


def test_nothing_asked_is_no_result():
    with answering(lambda _: PLAIN) as (address, _):
        measured = run(address, in_turn(iter(())), 1)
    with pytest.raises(UnexpectedAnswer):
        measured.check(200)


def test_a_load_ends_when_its_time_is_up():
    with answering(lambda _: PLAIN) as (address, _):
        request = address.request("GET", "Patient/1")
        measured = run(address, in_turn(itertools.repeat(request)), 2, 0.2)
    assert 0.2 <= measured.seconds < 5


def test_pages_are_followed_to_the_last_and_begun_anew():
    def answer(request):
        page = int(request.split()[1].partition(b"page=")[2] or 0)
        link = b'[{"relation":"self","url":"x"}]'
        if page < 2:
            link = b'[{"relation":"next","url":"http://other/fhir/Patient?page=%d"}]' % (page + 1)
        body = b'{"resourceType":"Bundle","link":%s}' % link
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    with answering(answer) as (address, asked):
        run(address, page_by_page(address, address.request("GET", "Patient")), 1, 0.2)
    paths = [request.split()[1] for request in asked]
    assert paths[:4] == [
        b"/fhir/Patient",
        b"/fhir/Patient?page=1",
        b"/fhir/Patient?page=2",
        b"/fhir/Patient",
    ]


def test_headers_go_with_each_request():
    address = Address.parse("http://localhost:8080/fhir/", ("Authorization: Bearer x",))
    assert b"\r\nAuthorization: Bearer x\r\n" in address.request("GET", "metadata")
    assert address.request("POST", "", b"{}").startswith(b"POST /fhir HTTP/1.1\r\n")


@pytest.mark.parametrize("url", ["localhost/fhir", "ftp://host/fhir", "http://"])
def test_what_is_no_http_url_is_refused(url):
    with pytest.raises(ValueError, match="no http"):
        Address.parse(url)
