"""The registry's result callback, read however it comes.

Prefixes and namespaces vary, the wrapper may be missing, the XML may be broken: what can be
made out is, and what cannot is named, so that the message is kept for a person.
"""

import re
from typing import NamedTuple

from adapters.national_registry.documents.faults import RegistryError
from adapters.national_registry.documents.soap import errors_of
from adapters.national_registry.documents.xml_tree import Node, XmlError, read

_SUCCESS = frozenset({"success", "ok", "registered"})
_ERROR = frozenset({"error", "failure", "rejected"})


class Result(NamedTuple):
    """`fault` names what keeps it from being acted on; "" if nothing does.

    `relates_to` is the message it answers, without `urn:uuid:` or with it, as it came.
    """

    relates_to: str
    local_uid: str
    is_success: bool
    emdr_id: str = ""
    registered_at: str = ""
    errors: tuple[RegistryError, ...] = ()
    fault: str = ""


def is_result(root: Node) -> bool:
    """Whether a message means to be a result: by its wrapper, or by what is in it."""
    wrapper = root.first(
        "registerDocumentResult", "sendRegisterDocumentResult", "sendRegisterDocumentResultRequest"
    )
    return wrapper is not None or root.first("relatesToMessage") is not None


def parse(body: bytes) -> Result:
    """The result; broken XML is searched for what names the document."""
    try:
        return of_tree(read(body))
    except XmlError:
        relates_to, local_uid = _salvaged(body, "relatesToMessage"), _salvaged(body, "localUid")
        return Result(relates_to, local_uid, False, fault="broken-xml")


def of_tree(root: Node) -> Result:
    status = root.text_of("status").lower()
    # Some write how it ended only as the document's status.
    status = status or root.text_of("documentStatus").lower()
    errors = errors_of(root)
    result = Result(
        root.text_of("relatesToMessage"),
        root.text_of("localUid"),
        status in _SUCCESS,
        root.text_of("emdrId"),
        root.text_of("registrationDateTime"),
        errors,
    )
    if status not in _SUCCESS and status not in _ERROR:
        return result._replace(fault="unknown-status" if status else "no-status")
    if result.is_success and errors:
        return result._replace(fault="success-with-errors")
    if not result.relates_to and not result.local_uid:
        return result._replace(fault="nameless")
    return result


def _salvaged(body: bytes, name: str) -> str:
    text = body.decode("utf-8", "replace")
    found = re.search(rf"<(?:[\w.\-]+:)?{name}\b[^>]{{0,200}}>\s*([\w:\-]{{1,100}})", text)
    return found[1] if found else ""
