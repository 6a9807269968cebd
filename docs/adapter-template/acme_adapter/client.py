"""HTTP to Acme, and what its answers mean for a delivery."""

import hashlib
from collections.abc import Mapping
from typing import Any

from fhir_server.core import resource_json
from fhir_server.outbox.receiver import Receiver


class AcmeClient:
    """`Receiver` knows deadlines, credentials, and which answers are worth another try."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def tell(self, message: Mapping[str, Any], idempotency_key: str) -> str:
        """Send; the receipt proves later what was answered."""
        headers = {"Idempotency-Key": idempotency_key}
        answer = self._receiver.send("POST", "measured", dict(message), headers)
        return f"sha256:{hashlib.sha256(answer.body + resource_json.format(message)).hexdigest()}"

    def close(self) -> None:
        self._receiver.close()
