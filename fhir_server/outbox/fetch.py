"""Fetch: small documents of other servers, by the rules for everything that goes out."""

from collections.abc import Mapping
from urllib.parse import urlencode

from fhir_server.errors import DeliveryDeferred, StoreUnavailable
from fhir_server.outbox.endpoint import OutboundPolicy
from fhir_server.outbox.session import Answer, OutboundSession, Timeouts

_MOST_BYTES = 256 * 1024
_TIMEOUTS = Timeouts(connect=3.0, read=5.0, total=8.0)


class Fetch:
    """For any thread. Every call waits, and raises `StoreUnavailable` if nothing good came."""

    def __init__(self, policy: OutboundPolicy) -> None:
        self._policy = policy

    def document(self, url: str) -> bytes:
        return self._ask("GET", url, {"Accept": "application/json"}, b"")

    def answer_to(self, url: str, form: Mapping[str, str], proof: Mapping[str, str]) -> bytes:
        """What is answered to a form; `proof` are headers that say who we are."""
        headers = {
            **proof,
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self._ask("POST", url, headers, urlencode(form).encode())

    def _ask(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> bytes:
        session = OutboundSession(self._policy, _TIMEOUTS, max_answer_bytes=_MOST_BYTES)
        try:
            answer: Answer = session.request(method, url, headers, body)
        except DeliveryDeferred as error:
            raise StoreUnavailable(f"another server is needed: {error}") from None
        finally:
            session.close()
        if answer.status != 200:
            raise StoreUnavailable(f"another server is needed, and answers {answer.status}")
        return answer.body
