"""SOAP to the registry: what each of its immediate answers means for a document."""

from adapters.national_registry.documents import soap
from adapters.national_registry.documents.faults import RegistryError
from adapters.national_registry.documents.soap import Addressing, Answer
from adapters.national_registry.documents.xml_tree import Node, XmlError, read
from fhir_server.errors import DeliveryDeferred
from fhir_server.outbox.answer import parse_retry_after
from fhir_server.outbox.session import OutboundSession

_REGISTER, _SEARCH = "registerDocument", "searchRegistryItem"
_RATE_SECONDS = 60.0


class DocumentClient:
    """For one thread at a time; `close` from any. `entity` is our id at the registry."""

    def __init__(self, session: OutboundSession, url: str, entity: str, token: str = "") -> None:
        self._session = session
        self._url = url
        self._entity = entity
        self._authorization = {"Authorization": f"Bearer {token}"} if token else {}

    def register(self, request: bytes, message_id: str) -> Answer:
        """What the registry says at once of a `soap.register_request`; the full check is later.

        Raises:
            DeliveryDeferred: nobody knows whether it got there, or it asks to wait.
        """
        addressing = Addressing(message_id, _REGISTER)
        body = soap.register_document(request, addressing, self._entity)
        answer = soap.answer(self._post(_REGISTER, body))
        if not answer.is_success and not answer.errors:
            raise DeliveryDeferred("the registry's answer says neither success nor error")
        return answer

    def find(self, local_uid: str, organization: str, message_id: str) -> Answer | None:
        """The registry's entry of a document, None if it has none.

        Raises:
            DeliveryDeferred: nobody knows.
        """
        addressing = Addressing(message_id, _SEARCH)
        body = soap.search_item(local_uid, organization, addressing, self._entity)
        answer = soap.answer(self._post(_SEARCH, body))
        if answer.errors and not _is_absence(answer.errors):
            raise DeliveryDeferred(f"the registry answered {answer.errors[0].code} to a search")
        return answer if answer.emdr_id else None

    def close(self) -> None:
        self._session.close()

    def _post(self, action: str, body: bytes) -> Node:
        headers = {"Content-Type": soap.media_type(action), **self._authorization}
        answer = self._session.request("POST", self._url, headers, body)
        retry_after = answer.headers.get("retry-after")
        if answer.status == 429:
            seconds = parse_retry_after(retry_after or "", answer.headers.get("date"))
            raise DeliveryDeferred("RATE_LIMIT", seconds or _RATE_SECONDS)
        try:
            root = read(answer.body)
        except XmlError:
            raise DeliveryDeferred(f"the registry answered {answer.status} and no SOAP") from None
        # A fault travels with a 4xx or 5xx; without one the status speaks for a proxy.
        if answer.status != 200 and root.first("Fault", "errors", "error") is None:
            raise DeliveryDeferred(f"the registry answered {answer.status}")
        return root


def _is_absence(errors: tuple[RegistryError, ...]) -> bool:
    return all(error.code in ("REGISTRY_ITEM_NOT_FOUND", "DOCUMENT_NOT_FOUND") for error in errors)
