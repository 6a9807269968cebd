"""HTTP to a hospital's FHIR server: upserts by identifier, and what they are called there."""

import re
from collections import OrderedDict

from adapters.hospital.translate import Token
from fhir_server.core import resource_json
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryDeferred, MalformedResource
from fhir_server.outbox.receiver import Receiver
from fhir_server.outbox.session import Answer

_LOCATION = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/[^/]+)?\Z")
_KEPT = 10_000


class HospitalClient:
    """For one thread at a time; `close` from any.

    Which id an identifier has there is remembered: an id is not given to another.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._names: OrderedDict[tuple[str, Token], str] = OrderedDict()

    def put(self, resource: Resource, token: Token) -> str:
        """Create it there, or update what has its identifier; what it is called there."""
        resource_type = resource["resourceType"]
        path = f"{resource_type}?{token.criterion()}"
        answer = self._receiver.send("PUT", path, resource, {"Prefer": "return=minimal"})
        return self._name(answer, resource_type, token)

    def ensure(self, resource: Resource, token: Token) -> str:
        """Create it there unless its identifier is known: theirs is not overwritten."""
        resource_type = resource["resourceType"]
        known = self._names.get((resource_type, token))
        if known is not None:
            return known
        headers = {"If-None-Exist": token.criterion(), "Prefer": "return=minimal"}
        answer = self._receiver.send("POST", resource_type, resource, headers)
        return self._name(answer, resource_type, token)

    def known(self, resource_type: str, token: Token) -> str | None:
        return self._names.get((resource_type, token))

    def close(self) -> None:
        self._receiver.close()

    def _name(self, answer: Answer, resource_type: str, token: Token) -> str:
        location = answer.headers.get("location", answer.headers.get("content-location", ""))
        matched = _LOCATION.match(location)
        name = matched[1] if matched else None
        if name is None or not name.startswith(f"{resource_type}/"):
            name = self._look_up(resource_type, token)
        self._names[resource_type, token] = name
        while len(self._names) > _KEPT:
            self._names.popitem(last=False)
        return name

    def _look_up(self, resource_type: str, token: Token) -> str:
        """Ask for it: a server need not say in an answer to an update where it is."""
        answer = self._receiver.send("GET", f"{resource_type}?{token.criterion()}&_elements=id")
        try:
            found = resource_json.parse_resource(answer.body).get("entry") or []
            (resource_id,) = [each["resource"]["id"] for each in found]
        except (MalformedResource, KeyError, TypeError, ValueError):
            raise DeliveryDeferred("the hospital does not say where it has put it") from None
        return f"{resource_type}/{resource_id}"
