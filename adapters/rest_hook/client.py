"""HTTP to a subscriber's endpoint: connections kept for some, and what an answer means."""

import email.utils
from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock
from typing import NamedTuple

from fhir_server.core.subscription import LONGEST_TIMEOUT
from fhir_server.errors import DeliveryDeferred, DeliveryRejected
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.session import Answer, OutboundSession, Timeouts
from fhir_server.outbox.subscription_channel import UnreachableError

# About what was sent, and not about the moment, the way there or who is asking.
_REFUSALS = frozenset({400, 413, 422})
_KEPT_SESSIONS = 64
_DEFAULT_TIMEOUT = 15.0
_CONNECT_TIMEOUT = 5.0
_ANSWER_BYTES = 64 * 1024


class _SessionKey(NamedTuple):
    # By URL, not by host: whoever shares a host must not wait for, or cut, the others.
    owner: str
    endpoint: str
    timeout: float


class RestHookClient:
    """Sends requests; any number of threads, one at a time for each `owner`."""

    def __init__(self, policy: OutboundPolicy) -> None:
        self._policy = policy
        self._lock = Lock()
        self._idle: OrderedDict[_SessionKey, OutboundSession] = OrderedDict()
        self._busy: set[OutboundSession] = set()
        self._is_closed = False

    def send(
        self,
        owner: str,
        method: str,
        endpoint: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        timeout: float | None,
    ) -> Answer:
        """Send; any success will do.

        `owner` is whose connection it is, a subscription; `path` is appended to the
        endpoint's; `timeout` is the seconds all of it may take, within limits of our own.

        Raises:
            UnreachableError: no whole answer came; the receiver may still have acted.
            DeliveryDeferred: the answer is no success, but another may be later.
            DeliveryRejected: the receiver refuses what was sent.
        """
        total = min(timeout or _DEFAULT_TIMEOUT, float(LONGEST_TIMEOUT))
        key = _SessionKey(owner, endpoint, total)
        session = self._take(key)
        try:
            answer = session.request(method, _join(endpoint, path), headers, body)
        except DeliveryDeferred as error:
            raise UnreachableError(str(error)) from None
        finally:
            self._give_back(key, session)
        if 200 <= answer.status < 300:
            return answer
        reason = f"the receiver answered {answer.status}"
        if answer.status in _REFUSALS:
            raise DeliveryRejected(reason)
        raise DeliveryDeferred(reason, _retry_after(answer.headers))

    def close(self) -> None:
        """Cut what is under way and let go. From any thread."""
        with self._lock:
            self._is_closed = True
            sessions = [*self._busy, *self._idle.values()]
            self._idle.clear()
        for session in sessions:
            session.close()

    def _take(self, key: _SessionKey) -> OutboundSession:
        with self._lock:
            if self._is_closed:
                raise DeliveryDeferred("the worker is stopping")
            session = self._idle.pop(key, None)
            if session is None:
                timeouts = Timeouts(
                    connect=min(_CONNECT_TIMEOUT, key.timeout), read=key.timeout, total=key.timeout
                )
                session = OutboundSession(self._policy, timeouts, max_answer_bytes=_ANSWER_BYTES)
            self._busy.add(session)
            return session

    def _give_back(self, key: _SessionKey, session: OutboundSession) -> None:
        surplus: list[OutboundSession] = []
        with self._lock:
            self._busy.discard(session)
            if self._is_closed or key in self._idle:
                surplus.append(session)
            else:
                self._idle[key] = session
            while len(self._idle) > _KEPT_SESSIONS:
                surplus.append(self._idle.popitem(last=False)[1])
        for each in surplus:
            each.close()


def _join(endpoint: str, path: str) -> str:
    if not path:
        return endpoint
    address, mark, query = endpoint.partition("?")
    return f"{address.rstrip('/')}/{path}{mark}{query}"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a `Retry-After`; its date form is counted from the receiver's own `Date`."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        until = email.utils.parsedate_to_datetime(text)
        since = email.utils.parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (until - since).total_seconds())
    except (TypeError, ValueError):
        return None
