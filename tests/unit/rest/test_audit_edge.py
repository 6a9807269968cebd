"""The edge: an answer leaves when its record is durable, and not at all when it cannot be."""

import asyncio
from types import SimpleNamespace

import pytest
from starlette.responses import Response, StreamingResponse

from fhir_server.core.security import audit_sheet
from fhir_server.core.security.principal import Principal
from fhir_server.errors import StoreUnavailable
from fhir_server.operations.audit_journal import AuditJournal
from fhir_server.rest.audit_edge import AuditEdge


class Store:
    """Keeps what is recorded, or is away."""

    def __init__(self, *, is_away=False):
        self.is_away = is_away
        self.commits = []
        self.entries = []

    def record(self, entries):
        self.entries += entries

    async def commit(self, decide):
        await asyncio.sleep(0)
        if self.is_away:
            raise StoreUnavailable("away")
        self.commits.append(len(self.entries))
        decide(self)


def written(store):
    (sheet,) = audit_sheet.sheets(store.entries)
    (record,) = audit_sheet.parse(sheet.text)
    return record


def scope_of(journal, **more):
    state = SimpleNamespace(audit_journal=journal, settings=SimpleNamespace(trusted_proxies=()))
    return {
        "type": "http",
        "app": SimpleNamespace(state=state),
        "method": "GET",
        "path": "/fhir/Patient/1",
        "query_string": b"",
        "headers": [],
        "client": ("10.0.0.7", 1),
        **more,
    }


def answered(store, status=200, path="/fhir/Patient/1", method="GET", **scope):
    """What a client is sent, and what was durable by then."""
    return asyncio.run(_answered(store, status, path, method, scope))


async def _answered(store, status, path, method, more, journal=None):
    sent = []

    async def app(scope, receive, send):
        scope["principal"] = Principal("user", "app", "anna")
        await Response("the patient's data", status)(scope, receive, send)

    async def send(message):
        sent.append((message, len(store.entries)))

    scope = scope_of(journal or AuditJournal(store), method=method, path=path, **more)
    await AuditEdge(app)(scope, None, send)
    body = b"".join(message.get("body", b"") for message, _ in sent)
    return sent[0][0], body, sent[0][1]


def test_an_answer_leaves_when_its_record_is_durable():
    store = Store()
    start, body, durable = answered(store)
    assert (start["status"], body, durable) == (200, b"the patient's data", 1)
    record = written(store)
    assert (record.asker.subject, record.address) == ("anna", "10.0.0.7")
    assert store.entries[0].patients == ("Patient/1",)


def test_what_cannot_be_recorded_is_not_answered():
    start, body, _ = answered(Store(is_away=True))
    assert start["status"] == 503
    assert b"retry-after" in dict(start["headers"])
    assert b"the patient's data" not in body


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_cannot_be_recorded_is_not_told_either(status):
    assert answered(Store(is_away=True), status)[0]["status"] == 503


def test_a_failure_is_told_though_it_cannot_be_recorded():
    assert answered(Store(is_away=True), 500)[0]["status"] == 500


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/health/live"), ("GET", "/metrics"), ("GET", "/fhir/metadata"), ("OPTIONS", "/fhir")],
)
def test_what_is_about_nobody_is_not_recorded(method, path):
    store = Store()
    assert answered(store, path=path, method=method)[0]["status"] == 200
    assert store.entries == []


def test_requests_that_wait_share_a_commit():
    store = Store()

    async def many():
        journal = AuditJournal(store)
        await asyncio.gather(
            *(_answered(store, 200, f"/fhir/Patient/{n}", "GET", {}, journal) for n in range(50))
        )

    asyncio.run(many())
    assert len(store.entries) == 50
    assert len(store.commits) <= 3


@pytest.mark.parametrize("is_away", [False, True])
def test_an_answer_in_pieces_leaves_when_its_record_is_durable_and_is_not_gathered(is_away):
    store, sent = Store(is_away=is_away), []

    async def pieces():
        for number in range(3):
            yield f"{number}"
            assert len(sent) == (2 if is_away else 2 + number)

    async def app(scope, receive, send):
        async def receive_nothing():
            await asyncio.Event().wait()

        await StreamingResponse(pieces())(scope, receive_nothing, send)

    async def send(message):
        sent.append((message, len(store.entries)))

    asyncio.run(AuditEdge(app)(scope_of(AuditJournal(store)), None, send))
    body = b"".join(message.get("body", b"") for message, _ in sent)
    assert sent[0][0]["status"] == (503 if is_away else 200)
    assert (body == b"012") is not is_away
    assert sent[0][1] == (0 if is_away else 1)


def test_a_request_that_breaks_off_has_its_record_all_the_same():
    store, sent = Store(), []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise OSError

    async def send(message):
        sent.append(message)

    with pytest.raises(OSError):  # noqa: PT011 - it is what was raised
        asyncio.run(AuditEdge(app)(scope_of(AuditJournal(store)), None, send))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert len(store.entries) == 1


def test_only_a_trusted_proxy_says_where_a_request_is_from():
    store = Store()
    answered(store, headers=[(b"x-forwarded-for", b"203.0.113.9")])
    assert written(store).address == "10.0.0.7"
