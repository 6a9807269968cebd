"""Connections: not too many, none that stands still, and a heavy client waits for itself."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from tests.conformance.conftest import Server

SLOW = 0.4


@pytest.fixture(scope="module")
def limited():
    with Server(slow_seconds=SLOW, max_connections_per_address=20, concurrent_requests=4) as server:
        yield server


@contextmanager
def connected(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        yield connection


def read_all(connection):
    received = b""
    while part := connection.recv(65_536):
        received += part
    return received


HEAD = b"POST /fhir/Patient HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\n"


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-A: ",
        HEAD + b"Content-Length: 90\r\n\r\n{",
    ],
    ids=["nothing", "half a head", "half a body"],
)
def test_what_does_not_arrive_is_408(limited, begin):
    with connected(limited) as connection:
        begun = time.monotonic()
        connection.sendall(begin)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"OperationOutcome" in answer
    assert time.monotonic() - begun < 10 * SLOW


@pytest.mark.parametrize("head", [HEAD, HEAD + b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_trickle_is_no_progress(limited, head):
    with connected(limited) as connection:
        connection.sendall(head)
        ended = threading.Event()

        def trickle():
            while not ended.wait(0.05):
                try:
                    connection.sendall(b"1\r\nx\r\n" if b"chunked" in head else b"X")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            answer = connection.recv(65_536)
        except ConnectionError:
            answer = b"HTTP/1.1 408 "
        finally:
            ended.set()
            thread.join()
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_between_requests_stays(limited):
    with requests.Session() as session:
        for _ in range(2):
            assert session.get(f"{limited.fhir}/metadata", timeout=5).ok
            time.sleep(3 * SLOW)


def test_a_connection_that_is_idle_for_long_ends():
    with Server(slow_seconds=0.1, keep_alive_seconds=1) as server, connected(server) as connection:
        request = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
        connection.sendall(request)
        assert b"200 OK" in connection.recv(65_536)
        time.sleep(0.5)
        connection.sendall(request)
        assert b"200 OK" in connection.recv(65_536)
        begun = time.monotonic()
        assert read_all(connection) == b""
        assert 0.8 < time.monotonic() - begun < 4


def test_a_head_without_end_is_431(limited):
    with connected(limited) as connection:
        connection.sendall(b"GET /fhir/metadata HTTP/1.1\r\nHost: x\r\nX-A: ")
        answer = b""
        try:
            for _ in range(100):
                connection.sendall(b"a" * 16_384)
            answer = connection.recv(65_536)
        except ConnectionError:
            return
    assert answer.startswith(b"HTTP/1.1 431 ")


def test_one_connection_too_many_is_told_when_to_come_again(limited):
    host, _, port = limited.url.removeprefix("http://").partition(":")
    crowd = [socket.create_connection((host, int(port)), timeout=5) for _ in range(25)]
    try:
        answers = [read_all(connection) for connection in crowd]
    finally:
        for connection in crowd:
            connection.close()
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
    assert len(refused) >= 5
    assert all(b"retry-after:" in answer.lower() for answer in refused)
    assert requests.get(f"{limited.fhir}/metadata", timeout=5).ok


def test_who_does_not_read_an_answer_is_let_go(limited, unique):
    extensions = [{"url": "urn:x", "valueString": "x" * 1_000_000} for _ in range(8)]
    big = {"resourceType": "Basic", "code": {"text": unique}, "extension": extensions}
    headers = {"Content-Type": "application/fhir+json"}
    made = requests.post(f"{limited.fhir}/Basic", json=big, timeout=10, headers=headers)
    assert made.status_code == 201
    path = f"/fhir/Basic/{made.json()['id']}"
    with connected(limited) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        time.sleep(5 * SLOW)
        received = 0
        try:
            while part := connection.recv(1 << 20):
                received += len(part)
        except ConnectionError:
            pass
    assert received < 8_000_000


def test_slow_bodies_keep_nobody_from_anything(limited):
    """More of them than there are places."""
    host, _, port = limited.url.removeprefix("http://").partition(":")
    senders = []
    for _ in range(10):
        sender = socket.create_connection((host, int(port)), timeout=5)
        sender.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
        senders.append(sender)
    try:
        begun = time.monotonic()
        assert requests.get(f"{limited.fhir}/Patient?_count=1", timeout=5).ok
        assert time.monotonic() - begun < SLOW
    finally:
        for sender in senders:
            sender.close()


def test_a_rate_is_429_with_the_time_to_wait():
    with Server(client_requests_per_minute=30) as server:
        answers = [requests.get(f"{server.fhir}/metadata", timeout=5) for _ in range(8)]
        assert [a.status_code for a in answers].count(200) == 5
        refused = answers[-1]
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 3
        assert refused.json()["issue"][0]["code"] == "throttled"
        assert requests.get(f"{server.url}/health/live", timeout=5).ok


def test_a_heavy_client_does_not_slow_a_light_one():
    with Server(concurrent_requests=4, trusted_proxies=("127.0.0.1",)) as server:
        ended = threading.Event()

        def ask(session, address):
            headers = {"X-Forwarded-For": address}
            return session.get(f"{server.fhir}/metadata", headers=headers, timeout=30)

        def hammer(_):
            with requests.Session() as session:
                while not ended.is_set():
                    assert ask(session, "192.0.2.1").ok

        with ThreadPoolExecutor(24) as pool:
            heavy = [pool.submit(hammer, n) for n in range(24)]
            time.sleep(0.5)
            times = {"192.0.2.1": [], "192.0.2.2": []}
            with requests.Session() as session:
                for _ in range(8):
                    for address, taken in times.items():
                        begun = time.monotonic()
                        assert ask(session, address).ok
                        taken.append(time.monotonic() - begun)
            ended.set()
            for one in heavy:
                one.result()
    own, other = (sorted(taken)[4] for taken in times.values())
    assert other < own


@pytest.mark.parametrize(
    "head",
    [
        b"GET /fhir/metadata HTTP/1.1\r\n\r\n",
        b"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /fhir/metadata HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /fhir/metadata HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET http://x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /fhir/metadata HTTP/1.1\nHost: a\n\n",
        b"GET /fhir/metadata HTTP/1.1\r\nHost: a\r\nX:\r\n b\r\n\r\n",
        HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
        HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Content-Length: +2\r\n\r\n{}",
    ],
)
def test_what_two_servers_could_understand_in_two_ways_is_400(limited, head):
    with connected(limited) as connection:
        connection.sendall(head)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("before", [b"", b"2\r\n{}\r\n"], ids=["first", "later"])
def test_what_is_said_around_a_body_ends_too(limited, before):
    with connected(limited) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + before + b"1;")
        sent = 0
        try:
            while sent < 2 * 2**20:
                sent += connection.send(b"a" * 65_536)
            answer = read_all(connection)
        except ConnectionError:
            # It hung up with bytes of ours on the way.
            answer = b"HTTP/1.1 431 "
    assert answer.startswith(b"HTTP/1.1 431 ")
