"""SOAP 1.2 with WS-Addressing: what we say to the registry, and what it says in answer.

https://www.w3.org/TR/soap12/, https://www.w3.org/TR/ws-addr-core/
"""

import base64
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from typing import NamedTuple

from adapters.national_registry.documents.content import Content
from adapters.national_registry.documents.document import SignedFile
from adapters.national_registry.documents.faults import RegistryError
from adapters.national_registry.documents.xml_tree import Element, Node, add, write, write_fragment

SOAP = "http://www.w3.org/2003/05/soap-envelope"
SERVICE = "http://egisz.rosminzdrav.ru/iehr/emdr/service/"
CALLBACK = "http://egisz.rosminzdrav.ru/iehr/emdr/callback/"

_NAMESPACES = {
    "xmlns:soap": SOAP,
    "xmlns:wsa": "http://www.w3.org/2005/08/addressing",
    "xmlns:egisz": "http://egisz.rosminzdrav.ru",
    "xmlns:ser": SERVICE,
    "xmlns:cb": CALLBACK,
}


class Addressing(NamedTuple):
    """`relates_to` is the message that this one answers."""

    message_id: str
    action: str
    relates_to: str = ""


class Answer(NamedTuple):
    """What the registry says at once. `registered` is its entry, where it was asked for one."""

    is_success: bool
    errors: tuple[RegistryError, ...]
    emdr_id: str = ""
    registered_at: str = ""


def media_type(action: str) -> str:
    return f'application/soap+xml; charset=utf-8; action="{action}"'


def envelope(addressing: Addressing, client_entity_id: str = "") -> tuple[Element, Element]:
    """An envelope and its body, which is to be filled."""
    root = ET.Element("soap:Envelope", _NAMESPACES)
    header = add(root, "soap:Header")
    if client_entity_id:
        info = add(add(header, "egisz:transportHeader"), "egisz:authInfo")
        add(info, "egisz:clientEntityId", text=client_entity_id)
    add(header, "wsa:MessageID", text=addressing.message_id)
    add(header, "wsa:Action", text=addressing.action)
    if addressing.relates_to:
        add(header, "wsa:RelatesTo", text=addressing.relates_to)
    return root, add(root, "soap:Body")


def register_request(content: Content, checksum: str) -> bytes:
    """What is said of a document, kept with it: every attempt says the same as the file does."""
    request = ET.Element("ser:registerDocumentRequest")
    _texts(
        request,
        {
            "localUid": content.local_uid,
            "kind": content.kind.value,
            "organization": content.organization.oid,
            "setId": content.set_id,
            "versionNumber": str(content.number),
            "replaces": content.replaces,
            "creationDateTime": content.created.isoformat(timespec="seconds"),
            "checksum": checksum,
        },
    )
    patient = content.patient
    _texts(
        add(request, "ser:patient"),
        {
            "surname": patient.name.family,
            "name": patient.name.given,
            "patronymic": patient.name.patronymic,
            "birthDate": patient.birth_date,
            "gender": patient.sex[0],
            "snils": patient.snils,
            "policy": patient.policy,
        },
    )
    author = content.author
    _texts(
        add(request, "ser:author"),
        {
            "surname": author.name.family,
            "name": author.name.given,
            "patronymic": author.name.patronymic,
            "snils": author.snils,
            "position": author.position[0],
        },
    )
    return write_fragment(request)


def register_document(request: bytes, addressing: Addressing, client_entity_id: str) -> bytes:
    """The envelope around a `register_request`."""
    root, _ = envelope(addressing, client_entity_id)
    before, found, after = write(root).rpartition(b"<soap:Body />")
    if not found:
        raise AssertionError("an envelope has an empty body to be filled")
    return before + b"<soap:Body>" + request + b"</soap:Body>" + after


def search_item(local_uid: str, organization: str, to: Addressing, client_entity_id: str) -> bytes:
    root, body = envelope(to, client_entity_id)
    request = add(body, "ser:searchRegistryItemRequest")
    _texts(request, {"organization": organization, "localUid": local_uid})
    return write(root)


def document_file(signed: SignedFile, local_uid: str, addressing: Addressing) -> bytes:
    root, body = envelope(addressing)
    response = add(body, "ser:getDocumentFileResponse")
    _texts(
        response,
        {
            "localUid": local_uid,
            "checksum": signed.checksum,
            "document": _base64(signed.file),
        },
    )
    personal = add(response, "ser:personalSignature")
    _texts(personal, {"role": "AUTHOR", "signature": _base64(signed.doctor)})
    _texts(response, {"orgSignature": _base64(signed.organization)})
    return write(root)


def acknowledgement(addressing: Addressing) -> bytes:
    root, body = envelope(addressing)
    response = add(body, "cb:sendRegisterDocumentResultResponse")
    add(response, "cb:status", text="success")
    return write(root)


def fault(code: str, text: str, addressing: Addressing) -> bytes:
    """`code` is "Sender" or "Receiver"."""
    root, body = envelope(addressing)
    element = add(body, "soap:Fault")
    add(add(element, "soap:Code"), "soap:Value", text=f"soap:{code}")
    add(add(element, "soap:Reason"), "soap:Text", {"xml:lang": "en"}, text)
    return write(root)


def answer(root: Node) -> Answer:
    """What a reply says; one that says nothing that is known is no success and has no errors."""
    if (found := root.first("Fault")) is not None:
        code = found.text_of("Value").rpartition(":")[2]
        error = RegistryError(found.text_of("errorCode") or f"SOAP_{code}".upper())
        return Answer(False, (error,))
    return Answer(
        root.text_of("status").lower() in ("success", "ok", "accepted"),
        errors_of(root),
        root.text_of("emdrId"),
        root.text_of("registrationDateTime"),
    )


def errors_of(root: Node) -> tuple[RegistryError, ...]:
    """The items of `errors`, and an error that stands without them."""
    return tuple(
        RegistryError(node.text_of("code") or "UNNAMED", node.text_of("message"))
        for node in root.walk()
        if node.name in ("item", "error") and node.first("code", "message") is not None
    )


def _texts(parent: Element, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if text:
            add(parent, f"ser:{name}", text=text)


def _base64(body: bytes) -> str:
    return base64.b64encode(body).decode("ascii")
