"""HTTP to the registry: what each answer means for a delivery."""

import email.utils
import hashlib
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryDeferred, DeliveryRejected, MalformedResource
from fhir_server.outbox.session import Answer, OutboundSession

_MEDIA_TYPE = "application/fhir+json"

# Not about what was sent but about us, the way there, or the moment: 401 and 407 lock out
# everything alike, and 409 is FHIR's word for a transaction that lost a race.
_PASSING = frozenset({401, 407, 408, 409, 421, 423, 425, 429})

_CODE = re.compile(r"[a-z][a-z\-]{0,40}\Z")
_EXPRESSION = re.compile(r"[A-Z][A-Za-z]*(?:\.[A-Za-z]+(?:\[\d+\])?){0,12}\Z")


class RegistryClient:
    """Posts transactions. For one thread at a time; `close` from any."""

    def __init__(self, session: OutboundSession, url: str, token: str | None = None) -> None:
        self._session = session
        self._url = url
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}

    def transact(self, bundle: Resource, idempotency_key: str) -> str:
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
            "Prefer": "return=minimal",
            "Idempotency-Key": idempotency_key,
            **self._authorization,
        }
        answer = self._session.request("POST", self._url, headers, resource_json.format(bundle))
        if answer.status != 200:
            raise _refusal(answer)
        _check_response(answer.body, len(bundle["entry"]))
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"

    def close(self) -> None:
        self._session.close()


def parse_retry_after(value: str, date: str | None) -> float | None:
    """Seconds of a `Retry-After`; its date form is counted from the receiver's own `Date`."""
    if value.strip().isascii() and value.strip().isdigit():
        return float(value.strip()[:10])
    until, since = _http_date(value), _http_date(date or "")
    if until is None or since is None:
        return None
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        parsed = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is not None else None


def _refusal(answer: Answer) -> DeliveryDeferred | DeliveryRejected:
    status = answer.status
    outcome = _outcome(answer.body)
    reason = f"the registry answered {status}"
    if told := ", ".join(_told(outcome)):
        reason += f" ({told})"
    # A 404 of a proxy or a wrong path is no word of the registry's about this Bundle, and
    # neither is a success or a redirect that is not the answer to a transaction.
    is_passing = (
        status in _PASSING or status >= 500 or status < 400 or (status == 404 and not outcome)
    )
    if not is_passing:
        return DeliveryRejected(reason)
    asked = answer.headers.get("retry-after")
    retry_after = None if asked is None else parse_retry_after(asked, answer.headers.get("date"))
    return DeliveryDeferred(reason, retry_after)


def _outcome(body: bytes) -> Mapping[str, Any] | None:
    try:
        resource = resource_json.parse_resource(body)
    except MalformedResource:
        return None
    return resource if resource["resourceType"] == "OperationOutcome" else None


def _told(outcome: Mapping[str, Any] | None) -> Iterator[str]:
    """Codes and paths only: the registry's texts quote names and birth dates."""
    issues = (outcome or {}).get("issue")
    for issue in issues[:5] if isinstance(issues, list) else ():
        if not isinstance(issue, dict):
            continue
        code, paths = issue.get("code"), issue.get("expression")
        if isinstance(code, str) and _CODE.match(code):
            path = paths[0] if isinstance(paths, list) and paths else None
            is_path = isinstance(path, str) and _EXPRESSION.match(path)
            yield f"{code} at {path}" if is_path else code


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
