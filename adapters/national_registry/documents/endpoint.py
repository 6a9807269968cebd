"""What the registry calls: the file of a document, and how its registration ended.

One SOAP address for both. What it sends is answered when it is durable, and nothing of it is
dropped: a message that cannot be acted on is set aside.
"""

import hashlib
import hmac
import logging
import uuid
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adapters.national_registry.documents import desk, document, result, set_aside, soap
from adapters.national_registry.documents.document import SignedFile, reference_key
from adapters.national_registry.documents.faults import LONGEST_WAIT
from adapters.national_registry.documents.result import Result
from adapters.national_registry.documents.soap import Addressing
from adapters.national_registry.documents.xml_tree import Node, XmlError, read
from adapters.national_registry.port import CommitAsync
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.errors import StoreUnavailable

_log = logging.getLogger(__name__)

PATH = "/registry/documents"

_MOST_BYTES = 1024 * 1024
_FILE_REQUESTS = ("getDocumentFileRequest", "getDocumentFile")

ReadAsync = Callable[[ResourceKey], Awaitable[Version | None]]


class RegistryEndpoint:
    """`token` is what the registry has to show as a bearer; "" leaves that to the proxy."""

    def __init__(
        self,
        read_version: ReadAsync,
        commit: CommitAsync,
        token: str = "",
        longest_wait: float = LONGEST_WAIT,
    ) -> None:
        self._longest_wait = longest_wait
        self._read = read_version
        self._commit = commit
        self._expected = f"Bearer {token}".encode() if token else b""

    @property
    def asks_for_token(self) -> bool:
        """Whether the registry has to show that it is the registry."""
        return bool(self._expected)

    def routes(self) -> list[Route]:
        return [Route(PATH, self.answer, methods=["POST"])]

    async def answer(self, request: Request) -> Response:
        shown = request.headers.get("authorization", "").encode()
        if self._expected and not hmac.compare_digest(shown, self._expected):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MOST_BYTES:
                return _soap(_fault("Sender", "the message is too long", b""), 413)
        raw = bytes(body)
        try:
            return await self._answer(raw)
        except StoreUnavailable:
            answer = _soap(_fault("Receiver", "the store is away", raw), 503)
            answer.headers["Retry-After"] = "5"
            return answer

    async def _answer(self, raw: bytes) -> Response:
        try:
            root = read(raw)
        except XmlError:
            return await self._take(result.parse(raw), raw)
        asked = root.first(*_FILE_REQUESTS)
        if asked is not None:
            return await self._file(root, asked, raw)
        if result.is_result(root):
            return await self._take(result.of_tree(root), raw)
        await self._commit(lambda tx: set_aside.keep(tx, raw, "unknown-message", None))
        return _soap(_fault("Sender", "this message is not known", raw), 400)

    async def _take(self, said: Result, raw: bytes) -> Response:
        wait = self._longest_wait
        state = await self._commit(lambda tx: desk.take_result(tx, said, raw, wait))
        if state is None:
            _log.warning("a message of the registry was set aside", extra={"fault": said.fault})
        return _soap(soap.acknowledgement(_addressing("sendRegisterDocumentResult", raw)), 200)

    async def _file(self, root: Node, asked: Node, raw: bytes) -> Response:
        uid = asked.text_of("localUid").lower()
        reference = await self._resource(reference_key(uid)) if set_aside.is_uuid(uid) else None
        task = None if reference is None else document.task_of(reference)
        signed = None if task is None else await self._signed(uid)
        if task is None or signed is None:
            return _soap(_fault("Sender", "no such document", raw), 404)
        await self._commit(lambda tx: desk.note_file_requested(tx, task))
        addressing = _addressing("getDocumentFile", raw, root.text_of("MessageID"))
        return _soap(soap.document_file(signed, uid, addressing), 200)

    async def _signed(self, uid: str) -> SignedFile | None:
        parts: dict[ResourceKey, Resource | None] = {
            key: await self._resource(key) for key in document.part_keys(uid)
        }
        return document.signed_file(uid, parts.__getitem__)

    async def _resource(self, key: ResourceKey) -> Resource | None:
        version = await self._read(key)
        return None if version is None or version.is_deletion else version.resource()


def _fault(code: str, text: str, raw: bytes) -> bytes:
    return soap.fault(code, text, _addressing("fault", raw))


def _addressing(action: str, raw: bytes, relates_to: str = "") -> Addressing:
    """The answer to the same message has the same id."""
    name = f"https://pmp.example/fhir/answer?to={hashlib.sha256(raw).hexdigest()}"
    return Addressing(f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}", action, relates_to)


def _soap(body: bytes, status: int) -> Response:
    return Response(body, status, media_type="application/soap+xml; charset=utf-8")
