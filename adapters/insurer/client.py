"""HTTP to the insurer: one transaction, taken as done when every entry is accounted for."""

import hashlib

from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryDeferred, DeliveryRejected, MalformedResource
from fhir_server.outbox.receiver import Receiver


class InsurerClient:
    """For one thread at a time; `close` from any."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def transact(self, bundle: Resource, idempotency_key: str) -> str:
        """Send `bundle`; the receipt is a digest of the answer.

        Raises:
            DeliveryDeferred: not now, or nobody knows.
            DeliveryRejected: the insurer refuses it.
        """
        headers = {"Idempotency-Key": idempotency_key, "Prefer": "return=minimal"}
        answer = self._receiver.send("POST", "", bundle, headers)
        try:
            response = resource_json.parse_resource(answer.body)
            statuses = [str(entry["response"]["status"]) for entry in response.get("entry", [])]
        except (MalformedResource, KeyError, TypeError):
            raise DeliveryDeferred("the insurer's answer is no transaction-response") from None
        if len(statuses) != len(bundle["entry"]):
            raise DeliveryDeferred("the insurer's answer does not account for every entry")
        if refused := [status[:3] for status in statuses if not status.startswith("2")]:
            raise DeliveryRejected(f"the insurer answered {refused[0]} to an entry")
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"

    def close(self) -> None:
        self._receiver.close()
