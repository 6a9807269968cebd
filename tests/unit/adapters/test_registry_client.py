"""What each answer of the registry means for a delivery."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapters.national_registry.client import RegistryClient
from fhir_server.errors import DeliveryDeferred, DeliveryRejected
from fhir_server.outbox.answer import parse_retry_after
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.session import OutboundSession, Timeouts

BUNDLE = {"resourceType": "Bundle", "type": "transaction", "entry": [{}, {}]}


def response(*statuses):
    return {
        "resourceType": "Bundle",
        "type": "transaction-response",
        "entry": [{"response": {"status": status}} for status in statuses],
    }


def outcome(code="invalid", expression="Bundle.entry[0].resource.subject"):
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": code,
                "diagnostics": "Ivanova 1961-02-03 11223344595",
                "details": {"text": "Ivanova"},
                "expression": [expression],
            }
        ],
    }


class Registry(BaseHTTPRequestHandler):
    answer = (200, {}, b"")
    seen: list = []  # noqa: RUF012

    def do_POST(self):
        self.seen.append((dict(self.headers), self.rfile.read(int(self.headers["content-length"]))))
        status, headers, body = self.answer
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def registry():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def send(registry):
    session = OutboundSession(OutboundPolicy(allow_private=True), Timeouts(1, 2, 3))
    client = RegistryClient(session, f"http://127.0.0.1:{registry.server_port}/fhir", "secret")

    def send(status, body, **headers):
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        Registry.answer = (status, named, text)
        Registry.seen.clear()
        return client.transact(BUNDLE, "the-key")

    yield send
    client.close()


def test_an_answer_that_accounts_for_every_entry_is_a_receipt(send):
    receipt = send(200, response("201 Created", "200 OK"))
    assert receipt.startswith("sha256:")
    headers, body = Registry.seen[0]
    assert headers["Idempotency-Key"] == "the-key"
    assert headers["Content-Type"].startswith("application/fhir+json")
    assert headers["Authorization"] == "Bearer secret"
    assert json.loads(body) == BUNDLE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>a proxy's page</html>",
        b"[]",
        b'{"resourceType":"Bundle","type":"transaction-response"}',
        response("201 Created"),
        {"resourceType": "Bundle", "type": "searchset", "entry": response("201", "201")["entry"]},
        {"resourceType": "Bundle", "type": "transaction-response", "entry": [None, {}]},
        outcome(),
    ],
)
def test_a_success_that_is_no_whole_answer_is_not_taken_as_done(send, body):
    with pytest.raises(DeliveryDeferred):
        send(200, body)


@pytest.mark.parametrize("status", [201, 202, 204, 301, 302, 307, 401, 408, 409, 429, 500, 503])
def test_what_is_not_about_the_bundle_is_deferred(send, status):
    with pytest.raises(DeliveryDeferred, match=str(status)):
        send(status, b"" if status == 204 else outcome())


@pytest.mark.parametrize("status", [400, 403, 404, 410, 412, 413, 422])
def test_what_is_about_the_bundle_is_rejected(send, status):
    with pytest.raises(DeliveryRejected, match=str(status)):
        send(status, outcome())


def test_a_404_without_an_outcome_is_a_wrong_way_and_deferred(send):
    with pytest.raises(DeliveryDeferred, match="404"):
        send(404, b"not here")


def test_an_entry_refused_within_a_success_is_rejected(send):
    with pytest.raises(DeliveryRejected, match="412"):
        send(200, response("201 Created", "412 Precondition Failed"))


def test_of_an_outcome_only_codes_and_paths_are_told(send):
    with pytest.raises(DeliveryRejected) as rejected:
        send(422, outcome("business-rule"))
    assert str(rejected.value) == (
        "the registry answered 422 (business-rule at Bundle.entry[0].resource.subject)"
    )


@pytest.mark.parametrize(
    "issue",
    [
        {"code": "Ivanova", "expression": ["Ivanova 1961"]},
        {"code": "invalid", "expression": ["Patient.name.where(family='Ivanova')"]},
        {"code": ["Ivanova"]},
        "Ivanova",
    ],
)
def test_a_text_in_the_place_of_a_code_or_path_is_not_told(send, issue):
    with pytest.raises(DeliveryRejected) as rejected:
        send(422, {"resourceType": "OperationOutcome", "issue": [issue]})
    assert "Ivanova" not in str(rejected.value)


def test_retry_after_is_passed_on(send):
    with pytest.raises(DeliveryDeferred) as deferred:
        send(429, outcome("throttled"), Retry_After="7")
    assert deferred.value.retry_after == 7.0


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("120", None, 120.0),
        (" 5 ", None, 5.0),
        ("9" * 400, None, 9_999_999_999.0),
        ("Wed, 01 May 2024 10:01:00 GMT", "Wed, 01 May 2024 10:00:00 GMT", 60.0),
        ("Wed, 01 May 2024 09:00:00 GMT", "Wed, 01 May 2024 10:00:00 GMT", 0.0),
        ("Wed, 01 May 2024 10:01:00 GMT", None, None),
        ("soon", None, None),
        ("-5", None, None),
        ("٣", None, None),
        ("", None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value, date, seconds):
    assert parse_retry_after(value, date) == seconds
