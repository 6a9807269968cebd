"""What an endpoint's answers mean, over real HTTP."""

import http.server
import threading
import time

import pytest

from adapters.rest_hook.client import RestHookClient
from fhir_server.errors import DeliveryDeferred, DeliveryRejected
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.subscription_channel import UnreachableError


class Endpoint(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook"
        self.answer = (200, {})
        self.delay = 0.0
        self.got = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.got.append((self.path, dict(self.headers), body))
        time.sleep(self.server.delay)
        status, headers = self.server.answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        return


@pytest.fixture
def endpoint():
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client():
    client = RestHookClient(OutboundPolicy(allow_private=True))
    yield client
    client.close()


def send(client, endpoint, path="", timeout=5.0, url=None):
    headers = {"X-Token": "s3cret"}
    return client.send("s", "POST", url or endpoint.url, path, headers, b"{}", timeout)


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_success_will_do(client, endpoint, status):
    endpoint.answer = (status, {})
    assert send(client, endpoint).status == status
    ((path, headers, body),) = endpoint.got
    assert (path, headers["X-Token"], body) == ("/hook", "s3cret", b"{}")


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_of_what_was_sent_is_for_good(client, endpoint, status):
    endpoint.answer = (status, {})
    with pytest.raises(DeliveryRejected, match=str(status)):
        send(client, endpoint)


@pytest.mark.parametrize("status", [301, 307, 401, 403, 404, 409, 410, 429, 500, 503])
def test_what_is_about_the_moment_or_the_way_is_tried_again(client, endpoint, status):
    endpoint.answer = (status, {"Retry-After": "7", "Location": endpoint.url + "/elsewhere"})
    with pytest.raises(DeliveryDeferred) as deferred:
        send(client, endpoint)
    assert not isinstance(deferred.value, UnreachableError)
    assert deferred.value.retry_after == 7
    assert len(endpoint.got) == 1
    assert "s3cret" not in str(deferred.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Wed, 01 May 2024 12:00:30 GMT"}, None),
        ({"Retry-After": "99999999999999999999"}, 9_999_999_999.0),
    ],
)
def test_a_retry_after_is_read_if_it_means_something(client, endpoint, headers, seconds):
    endpoint.answer = (503, headers)
    with pytest.raises(DeliveryDeferred) as deferred:
        send(client, endpoint)
    # The test's server adds the date of its own clock: long after 2024.
    assert deferred.value.retry_after in (seconds, 0.0)


def test_an_endpoint_without_an_answer_is_unreachable(client, endpoint):
    endpoint.delay = 2.0
    with pytest.raises(UnreachableError):
        send(client, endpoint, timeout=0.3)
    with pytest.raises(UnreachableError):
        send(client, endpoint, url="http://127.0.0.1:1/hook")


def test_a_private_address_is_not_connected_to(endpoint):
    client = RestHookClient(OutboundPolicy())
    with pytest.raises(UnreachableError, match="ALLOW_PRIVATE_ENDPOINTS"):
        send(client, endpoint)
    assert not endpoint.got


def test_a_path_goes_before_the_query_of_the_endpoint(client, endpoint):
    send(client, endpoint, "Patient/1", url=endpoint.url + "/?key=1")
    assert endpoint.got[0][0] == "/hook/Patient/1?key=1"


def test_closing_cuts_what_is_under_way_and_lets_nothing_begin(client, endpoint):
    endpoint.delay = 1.5
    threading.Timer(0.2, client.close).start()
    began = time.monotonic()
    with pytest.raises(DeliveryDeferred):
        send(client, endpoint, timeout=20)
    assert time.monotonic() - began < 1.2
    with pytest.raises(DeliveryDeferred, match="stopping"):
        send(client, endpoint)


def test_connections_are_kept(client, endpoint):
    for _ in range(3):
        send(client, endpoint)
    assert len(client._idle) == 1
