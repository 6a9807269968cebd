"""HTTP to the registry: what each answer means for a delivery."""

import hashlib
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import (
    DeliveryDeferred,
    DeliveryPending,
    DeliveryRejected,
    MalformedResource,
)
from fhir_server.outbox.answer import codes_and_paths, parse_retry_after, told_outcome
from fhir_server.outbox.session import Answer, OutboundSession

_MEDIA_TYPE = "application/fhir+json"

# Not about what was sent but about us, the way there, or the moment: 401 and 407 lock out
# everything alike, and 409 is FHIR's word for a transaction that lost a race.
_PASSING = frozenset({401, 407, 408, 409, 421, 423, 425, 429})


AT_WORK = "the registry is at work on it"

# Seconds until the next question where the registry does not say.
_ASK_AGAIN = 5.0


class Later(NamedTuple):
    """The registry has taken a transaction and answers at `url`, in `retry_after` seconds."""

    url: str
    retry_after: float


class AnswerLost(Exception):
    """The registry knows nothing of what it said it would answer: it is to be sent again."""


class RegistryClient:
    """Posts transactions. For one thread at a time; `close` from any."""

    def __init__(
        self,
        session: OutboundSession,
        url: str,
        token: str | None = None,
        *,
        prefer_async: bool = False,
    ) -> None:
        self._session = session
        self._url = url
        self._prefer = "return=minimal" + (", respond-async" if prefer_async else "")
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}

    def transact(self, bundle: Resource, idempotency_key: str) -> str | Later:
        """Send `bundle`; the receipt is a digest of the registry's answer.

        Only a whole answer that accounts for every entry is taken as done: an answer cut
        short says nothing, and sending again is safe.

        Raises:
            DeliveryDeferred: not now, or nobody knows.
            DeliveryRejected: the registry refuses this Bundle.
        """
        headers = {
            "Accept": _MEDIA_TYPE,
            "Content-Type": f"{_MEDIA_TYPE}; charset=utf-8",
            "Prefer": self._prefer,
            "Idempotency-Key": idempotency_key,
            **self._authorization,
        }
        answer = self._session.request("POST", self._url, headers, resource_json.format(bundle))
        if answer.status == 202:
            return Later(self._status_url(answer), _retry_after(answer) or _ASK_AGAIN)
        if answer.status != 200:
            raise _refusal(answer)
        return _receipt(answer.body, len(bundle["entry"]))

    def ask(self, url: str, entries: int) -> str:
        """The receipt of what the registry was to answer at `url`, of so many entries.

        Raises:
            DeliveryPending: it is still at work.
            DeliveryDeferred: not now, or nobody knows.
            DeliveryRejected: it refuses the Bundle.
            AnswerLost: it knows nothing of it.
        """
        headers = {"Accept": _MEDIA_TYPE, **self._authorization}
        answer = self._session.request("GET", url, headers, b"")
        if answer.status == 202:
            raise DeliveryPending(AT_WORK, _retry_after(answer) or _ASK_AGAIN)
        if answer.status in (404, 410):
            raise AnswerLost
        if answer.status != 200:
            raise _refusal(answer)
        return _receipt(_unwrapped(answer.body), entries)

    def _status_url(self, answer: Answer) -> str:
        """Where the answer will be; only at the registry, for our token goes there."""
        url = urljoin(self._url, answer.headers.get("content-location", ""))
        if url == self._url or urlsplit(url)[:2] != urlsplit(self._url)[:2]:
            raise DeliveryDeferred("the registry answered 202 and no place of its own to ask at")
        return url

    def close(self) -> None:
        self._session.close()


def _refusal(answer: Answer) -> DeliveryDeferred | DeliveryRejected:
    status = answer.status
    outcome = told_outcome(answer.body)
    reason = f"the registry answered {status}"
    if told := ", ".join(codes_and_paths(outcome)):
        reason += f" ({told})"
    # A 404 of a proxy or a wrong path is no word of the registry's about this Bundle, and
    # neither is a success or a redirect that is not the answer to a transaction.
    is_passing = (
        status in _PASSING or status >= 500 or status < 400 or (status == 404 and not outcome)
    )
    if not is_passing:
        return DeliveryRejected(reason)
    return DeliveryDeferred(reason, _retry_after(answer))


def _retry_after(answer: Answer) -> float | None:
    asked = answer.headers.get("retry-after")
    return None if asked is None else parse_retry_after(asked, answer.headers.get("date"))


def _receipt(body: bytes, sent: int) -> str:
    _check_response(body, sent)
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def _unwrapped(body: bytes) -> bytes:
    """The transaction-response in what a status URL answers.

    Some answer as the transaction would have; others, with a batch-response around it.

    Raises:
        DeliveryDeferred, DeliveryRejected: as if the entry had been the answer.
    """
    try:
        bundle = resource_json.parse_resource(body)
        if bundle["resourceType"] != "Bundle" or bundle.get("type") != "batch-response":
            return body
        (entry,) = bundle["entry"]
        status = int(str(entry["response"]["status"])[:3])
        inner = entry.get("resource") or entry["response"].get("outcome") or {}
    except (MalformedResource, KeyError, TypeError, ValueError):
        raise DeliveryDeferred("the registry's answer is no transaction-response") from None
    if status != 200:
        raise _refusal(Answer(status, {}, resource_json.format(inner)))
    return resource_json.format(inner)


def _check_response(body: bytes, sent: int) -> None:
    try:
        response = resource_json.parse_resource(body)
        entries = response.get("entry", [])
        statuses = [str(entry["response"]["status"]) for entry in entries]
    except (MalformedResource, KeyError, TypeError):
        raise DeliveryDeferred("the registry's answer is no transaction-response") from None
    if response["resourceType"] != "Bundle" or response.get("type") != "transaction-response":
        raise DeliveryDeferred("the registry's answer is no transaction-response")
    if len(statuses) != sent:
        raise DeliveryDeferred("the registry's answer does not account for every entry")
    if refused := [status[:3] for status in statuses if not status.startswith("2")]:
        raise DeliveryRejected(f"the registry answered {refused[0]} to an entry")
