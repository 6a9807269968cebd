"""The stand-in registry's other half: documents, registered in two phases with a callback.

`POST /emdr` takes `registerDocument` and `searchRegistryItem`. What was accepted is fetched
from the sender, checked, and told of; that goes on after a restart. `GET /documents` says
what is there, `GET /documents/{uid}/file` is the file.
`POST /document-faults {"kind": "broken-callback", "times": 1}` makes the next one go wrong.
"""

import asyncio
import base64
import hashlib
import os
import sqlite3
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import requests
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from adapters.national_registry.documents.signer import ENGINE, is_gost_available
from adapters.national_registry.documents.soap import Addressing, envelope, media_type
from adapters.national_registry.documents.xml_tree import Element, Node, XmlError, add, read, write

_SCHEMA = """
CREATE TABLE IF NOT EXISTS document(
    uid TEXT PRIMARY KEY, message TEXT NOT NULL, kind TEXT NOT NULL, organization TEXT NOT NULL,
    checksum TEXT NOT NULL, state TEXT NOT NULL, fault TEXT NOT NULL, emdr TEXT NOT NULL,
    sends INTEGER NOT NULL, refused INTEGER NOT NULL, fetches INTEGER NOT NULL, file BLOB);
"""
_OPEN = ("accepted", "fetched", "failing")


class DocumentFault(StrEnum):
    """What goes wrong with a document."""

    NONE = "none"
    REJECT = "reject"
    RATE_LIMIT = "rate-limit"
    INTERNAL = "internal-error"
    DUPLICATE = "duplicate"
    ACCEPT_THEN_ERROR = "accept-then-error"
    SILENT = "never-answer"
    SILENT_REGISTERED = "register-and-never-answer"
    FILE_FAILS = "file-fails"
    LATE_REJECT = "late-reject"
    LATE_DUPLICATE = "late-duplicate"
    OTHER_PREFIX = "other-prefix"
    NO_WRAPPER = "no-wrapper"
    BROKEN = "broken-callback"
    UNKNOWN_STATUS = "unknown-status"
    TWICE = "callback-twice"


_IMMEDIATE = {
    DocumentFault.REJECT: ("VALIDATION_ERROR", "Ошибка: пациент Иванова Мария, 03.02.1961"),
    DocumentFault.RATE_LIMIT: ("RATE_LIMIT", "Достигнут защитный лимит"),
    DocumentFault.INTERNAL: ("INTERNAL_ERROR", "Непредвиденная ошибка"),
}
_LATE = {
    DocumentFault.LATE_REJECT: (
        "RECEPIENT_SNILS_MISMATCH",
        "СНИЛС 112-233-445 95 пациента Иванова Мария Петровна не соответствует данным ГИП",
    ),
    DocumentFault.LATE_DUPLICATE: ("NOT_UNIQUE_PROVIDED_ID", "Документ уже зарегистрирован"),
    DocumentFault.FILE_FAILS: ("MIS_NOT_AVAILABLE", "Файл не получен"),
}


class DocumentFaults(BaseModel):
    """The fault of the next `times` documents; None: of all."""

    kind: DocumentFault = DocumentFault.NONE
    times: int | None = None

    def next(self) -> DocumentFault:
        if self.times == 0:
            return DocumentFault.NONE
        if self.times is not None:
            self.times -= 1
        return self.kind


class Callback(NamedTuple):
    """Whom to call; with `signer_ca` signatures are checked against it."""

    url: str
    token: str = ""
    signer_ca: Path | None = None


class DocumentJournal:
    """What is known of documents, in the journal's file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def get(self, uid: str) -> dict[str, Any] | None:
        row = self._db.execute("SELECT * FROM document WHERE uid = ?", (uid,)).fetchone()
        return None if row is None else dict(row)

    def accept(self, root: Node, message: str, fault: DocumentFault, state: str) -> None:
        uid = root.text_of("localUid")
        self._db.execute(
            "INSERT INTO document VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, 0, 0, NULL)"
            " ON CONFLICT (uid) DO UPDATE SET message = excluded.message,"
            " state = excluded.state, fault = excluded.fault, sends = sends + 1",
            (
                *(uid, message, root.text_of("kind"), root.text_of("organization")),
                *(root.text_of("checksum"), state, fault.value, f"emdr-{uid[:8]}"),
            ),
        )

    def refuse(self, uid: str) -> None:
        self._db.execute("UPDATE document SET refused = refused + 1 WHERE uid = ?", (uid,))

    def set_state(self, uid: str, state: str) -> None:
        self._db.execute("UPDATE document SET state = ? WHERE uid = ?", (state, uid))

    def keep_file(self, uid: str, file: bytes) -> None:
        self._db.execute(
            "UPDATE document SET file = ?, fetches = fetches + 1 WHERE uid = ?", (file, uid)
        )

    def open(self) -> list[str]:
        marks = ", ".join("?" * len(_OPEN))
        rows = self._db.execute(f"SELECT uid FROM document WHERE state IN ({marks})", _OPEN)  # noqa: S608
        return [row[0] for row in rows]

    def all(self) -> list[dict[str, Any]]:
        columns = "uid, kind, state, emdr, sends, refused, fetches"
        rows = self._db.execute(f"SELECT {columns} FROM document ORDER BY rowid")  # noqa: S608
        return [dict(row) for row in rows]


def add_routes(app: FastAPI, journal: DocumentJournal, callback: Callback) -> None:
    """The document half over one journal; what is open is gone on with at the start."""
    current = {"faults": DocumentFaults()}
    checks = _Checks(journal, callback)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(running: FastAPI) -> AsyncIterator[None]:
        async with inner(running):
            work = asyncio.create_task(checks.run())
            yield
            work.cancel()

    app.router.lifespan_context = lifespan

    @app.post("/emdr")
    async def emdr(request: Request) -> Response:
        try:
            root = read(await request.body())
        except XmlError:
            return Response(status_code=400)
        if root.first("searchRegistryItemRequest") is not None:
            return _search(journal, root)
        return _register(journal, root, current["faults"])

    @app.post("/document-faults")
    async def set_faults(wanted: DocumentFaults) -> DocumentFaults:
        current["faults"] = wanted
        return wanted

    @app.get("/documents")
    async def documents() -> list[dict[str, Any]]:
        return journal.all()

    @app.get("/documents/{uid}/file")
    async def file(uid: str) -> Response:
        found = journal.get(uid)
        if found is None or found["file"] is None:
            return Response(status_code=404)
        return Response(found["file"], media_type="application/xml")


def _register(journal: DocumentJournal, root: Node, faults: DocumentFaults) -> Response:
    uid, message = root.text_of("localUid"), root.text_of("MessageID")
    if not uid or not message or not root.text_of("clientEntityId"):
        return _answer("registerDocument", ("VALIDATION_ERROR", ""))
    known = journal.get(uid)
    if known is not None and known["state"] not in ("failed",):
        journal.refuse(uid)
        return _answer("registerDocument", ("NOT_UNIQUE_PROVIDED_ID", ""))
    fault = faults.next()
    if fault in _IMMEDIATE:
        return _answer("registerDocument", _IMMEDIATE[fault])
    state = {
        DocumentFault.SILENT: "silent",
        DocumentFault.SILENT_REGISTERED: "registered",
        DocumentFault.DUPLICATE: "registered",
    }.get(fault, "accepted")
    journal.accept(root, message, fault, state)
    if fault is DocumentFault.DUPLICATE:
        return _answer("registerDocument", ("NOT_UNIQUE_PROVIDED_ID", ""))
    if fault is DocumentFault.ACCEPT_THEN_ERROR:
        return Response("<html>bad gateway</html>", 502)
    return _answer("registerDocument", None)


def _search(journal: DocumentJournal, root: Node) -> Response:
    found = journal.get(root.text_of("localUid"))
    reply, body = envelope(_new_message("searchRegistryItem"))
    response = add(body, "ser:searchRegistryItemResponse")
    add(response, "ser:status", text="success")
    if found is not None and found["state"] == "registered":
        _registry_item(response, found, "ser")
    return Response(write(reply), media_type="application/soap+xml")


def _answer(action: str, error: tuple[str, str] | None) -> Response:
    reply, body = envelope(_new_message(action))
    response = add(body, f"ser:{action}Response")
    add(response, "ser:status", text="success" if error is None else "error")
    if error is not None:
        _errors(response, error, "ser")
    return Response(write(reply), media_type="application/soap+xml")


class _Checks:
    """The full check of what was accepted, one after the other."""

    def __init__(self, journal: DocumentJournal, callback: Callback) -> None:
        self._journal = journal
        self._callback = callback

    async def run(self) -> None:
        while True:
            for uid in self._journal.open():
                try:
                    await self._check(uid)
                except requests.RequestException:
                    # The sender is away; it is asked again.
                    continue
            await asyncio.sleep(0.1)

    async def _check(self, uid: str) -> None:
        row = self._journal.get(uid) or {}
        fault = DocumentFault(row["fault"])
        error = _LATE.get(fault)
        if fault is not DocumentFault.FILE_FAILS:
            error = await self._fetch(uid, row) or error
        for _ in range(2 if fault is DocumentFault.TWICE else 1):
            await self._post("sendRegisterDocumentResult", _result(row, fault, error))
        self._journal.set_state(uid, "registered" if error is None else "failed")

    async def _fetch(self, uid: str, row: dict[str, Any]) -> tuple[str, str] | None:
        request, body = envelope(_new_message("getDocumentFile"))
        add(add(body, "ser:getDocumentFileRequest"), "ser:localUid", text=uid)
        root = read(await self._post("getDocumentFile", write(request)))
        file = base64.b64decode(root.text_of("document"))
        if hashlib.sha256(file).hexdigest() != row["checksum"]:
            return ("DIGEST_MISMATCH", "")
        self._journal.keep_file(uid, file)
        for name in ("signature", "orgSignature"):
            signature = base64.b64decode(root.text_of(name))
            if not await asyncio.to_thread(_is_signed, file, signature, self._callback.signer_ca):
                return ("SIGNATURE_VERIFICATION_ERROR", name)
        return None

    async def _post(self, action: str, body: bytes) -> bytes:
        def post() -> bytes:
            headers = {"Content-Type": media_type(action)}
            if self._callback.token:
                headers["Authorization"] = f"Bearer {self._callback.token}"
            answer = requests.post(self._callback.url, body, headers=headers, timeout=10)
            answer.raise_for_status()
            return answer.content

        return await asyncio.to_thread(post)


def _result(row: dict[str, Any], fault: DocumentFault, error: tuple[str, str] | None) -> bytes:
    root, body = envelope(_new_message("sendRegisterDocumentResult"))
    holder = body
    if fault is not DocumentFault.NO_WRAPPER:
        holder = add(body, "cb:sendRegisterDocumentResultRequest")
        holder = add(holder, "cb:registerDocumentResult")
    status = "success" if error is None else "error"
    add(holder, "cb:relatesToMessage", text=row["message"])
    add(holder, "cb:localUid", text=row["uid"])
    status = "perhaps" if fault is DocumentFault.UNKNOWN_STATUS else status
    add(holder, "cb:status", text=status)
    add(holder, "cb:kind", text=row["kind"])
    add(holder, "cb:organization", text=row["organization"])
    if error is None:
        _registry_item(holder, row, "cb")
    else:
        _errors(holder, error, "cb")
    said = write(root)
    if fault is DocumentFault.OTHER_PREFIX:
        said = said.replace(b"cb:", b"ns27:").replace(b"xmlns:cb", b"xmlns:ns27")
    if fault is DocumentFault.BROKEN:
        said = said.replace(b"</cb:status>", b"</cb:stat>")
    return said


def _registry_item(parent: Element, row: dict[str, Any], prefix: str) -> None:
    item = add(parent, f"{prefix}:registryItem")
    add(item, f"{prefix}:emdrId", text=row["emdr"])
    add(item, f"{prefix}:registrationDateTime", text="2026-01-01T12:00:00+03:00")


def _errors(parent: Element, error: tuple[str, str], prefix: str) -> None:
    item = add(add(parent, f"{prefix}:errors"), f"{prefix}:item")
    add(item, f"{prefix}:code", text=error[0])
    add(item, f"{prefix}:message", text=error[1])


@lru_cache(maxsize=1)
def _is_gost_known() -> bool:
    return is_gost_available()


def _new_message(action: str) -> Addressing:
    return Addressing(f"urn:uuid:{uuid.uuid1()}", action)


def _is_signed(content: bytes, signature: bytes, authority: Path | None) -> bool:
    """Whether OpenSSL accepts the detached signature; without `authority`, of whomever."""
    trust = ["-noverify"] if authority is None else ["-CAfile", str(authority)]
    with tempfile.TemporaryDirectory(prefix="fhir-registry-") as folder:
        signed, detached = Path(folder) / "content", Path(folder) / "signature"
        signed.write_bytes(content)
        detached.write_bytes(signature)
        files = ["-in", str(detached), "-content", str(signed), "-out", "/dev/null"]
        configuration = Path(folder) / "openssl.cnf"
        configuration.write_text(ENGINE if _is_gost_known() else "")
        done = subprocess.run(  # noqa: S603 - our own arguments
            ["openssl", "cms", "-verify", "-binary", "-inform", "DER", *trust, *files],  # noqa: S607
            env={**os.environ, "OPENSSL_CONF": str(configuration)},
            capture_output=True,
            check=False,
            timeout=20,
        )
    return done.returncode == 0
