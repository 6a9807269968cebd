"""The registry of documents as a sink: care plans plan documents, queued ones are sent.

A delivery is a CarePlan that changed, or a registration that is queued. Everything between
is in the store, so any worker goes on where another was killed.
"""

import logging
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from adapters.national_registry.documents import desk, document, planning, registration, soap
from adapters.national_registry.documents.cda import compose
from adapters.national_registry.documents.client import DocumentClient
from adapters.national_registry.documents.compose import House, Place, compose_content
from adapters.national_registry.documents.content import Content, Kind
from adapters.national_registry.documents.document import SignedFile
from adapters.national_registry.documents.facts import gather, search
from adapters.national_registry.documents.faults import (
    LONGEST_WAIT,
    RATE_LIMIT,
    Again,
    classify,
    worst,
)
from adapters.national_registry.documents.planning import Policy
from adapters.national_registry.documents.registration import State
from adapters.national_registry.documents.signer import KeyPair, Signer
from adapters.national_registry.port import Surroundings, Transaction
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Query
from fhir_server.core.version import Version, format_instant
from fhir_server.errors import DeliveryDeferred, DeliveryPending, DeliveryRejected

_log = logging.getLogger(__name__)

NAME = "document-registry"

_MOST_AT_ONCE = 100
_CODE = f"{registration.TASK_SYSTEM}|{registration.TASK_CODE}"


class Keys(NamedTuple):
    """Who signs with what; doctors by their SNILS."""

    doctors: dict[str, KeyPair]
    organization: KeyPair


class Patience(NamedTuple):
    """`silence` is how long the registry may take; `look` how often what is due is sought.

    `longest_wait` bounds the wait after a fault that may pass. Both are in seconds.
    """

    silence: timedelta = timedelta(days=15)
    look: float = 60.0
    longest_wait: float = LONGEST_WAIT


class DocumentRegistrySink:
    """Registers documents, each on its own."""

    def __init__(
        self,
        client: DocumentClient,
        signer: Signer,
        keys: Keys,
        house: House,
        policy: Policy,
        patience: Patience,
        around: Surroundings,
    ) -> None:
        self._client = client
        self._signer = signer
        self._keys = keys
        self._house = house
        self._policy = policy
        self._patience = patience
        self._around = around
        self._next_look = 0.0

    @property
    def name(self) -> str:
        return NAME

    @property
    def batch_size(self) -> int:
        return 1

    def group(self, version: Version) -> str | None:
        """A care plan, or a registration that is to be sent now."""
        if version.key.resource_type == "CarePlan":
            return str(version.key)
        if version.key.resource_type != "Task" or version.is_deletion:
            return None
        task = version.resource()
        is_wanted = registration.is_registration(task) and registration.is_to_be_sent(task)
        return str(version.key) if is_wanted else None

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        receipts = []
        for version in versions:
            if version.key.resource_type == "CarePlan":
                receipts.append(self._plan(version.key))
            else:
                receipts.append(self._register(version.key))
        return "; ".join(receipts)

    def attend(self) -> None:
        """Queue what is due, and ask after what the registry is silent about."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + self._patience.look
        now = self._around.now()
        # What is due has begun: "lt" the next millisecond, for "le" asks where it ends too.
        begun = f"lt{format_instant(now + timedelta(milliseconds=1))}"
        keys = [v.key for v in self._found(("status", "draft,on-hold"), ("period", begun))]
        queued = [self._around.commit(partial(self._queue, key=key)) for key in keys]
        if len(keys) == _MOST_AT_ONCE and any(queued):
            # There is more than one look may bring: go on after the next delivery.
            self._next_look = 0.0
        since = now - self._patience.silence
        under_way = ("business-status", f"{State.ACCEPTED},{State.FILE_REQUESTED},{State.SENT}")
        for version in self._found(under_way, ("modified", f"lt{format_instant(since)}")):
            self._ask_after(version, since)

    def close(self) -> None:
        self._client.close()

    def _plan(self, key: ResourceKey) -> str:
        def open_tasks(plan: ResourceKey) -> Query:
            criteria = (("code", _CODE), ("based-on", str(plan)), ("status", "draft"))
            return search(self._around, "Task", criteria, _MOST_AT_ONCE)

        self._around.commit(lambda tx: planning.plan_documents(tx, key, self._policy, open_tasks))
        # What is due at once need not wait for the next look.
        self._next_look = 0.0
        return "planned"

    def _queue(self, tx: Transaction, key: ResourceKey) -> bool:
        """Whether it was a planned or waiting registration whose time has come."""
        task = desk.task_at(tx, key)
        if task is None or task.get("status") not in ("draft", "on-hold"):
            return False
        due = registration.due_of(task)
        if due is None or due > tx.now:
            return False
        code = registration.fault_of(task)
        reason = (code, task["statusReason"].get("text", "")) if code else None
        desk.put(tx, key, registration.moved(task, State.QUEUED, tx.now, reason=reason))
        if registration.state_of(task) is not State.PLANNED:
            return True
        try:
            plan, kind = registration.plan_of(task), registration.kind_of(task)
            last = registration.period_of(task)[1]
        except (ValueError, KeyError, IndexError):
            # Its delivery will say so; the others of this look go on.
            _log.warning("a registration was altered", extra={"task": str(key)})
            return True
        if kind is Kind.PROTOCOL and last is not None:
            planning.plan_report(tx, plan, last + timedelta(days=1), self._policy)
        return True

    def _register(self, key: ResourceKey) -> str:
        task = self._task(key)
        state = None if task is None else registration.state_of(task)
        if task is None or state is None or state is State.CANCELLED:
            return "not wanted any more"
        if state in (State.ACCEPTED, State.FILE_REQUESTED, State.REGISTERED):
            return f"{state} before"
        if state in (State.REJECTED, State.NO_RESPONSE):
            # Somebody brought a parked delivery back: that is leave to try again.
            self._around.commit(lambda tx: self._revive(tx, key))
        uid = registration.document_uid(task) or self._make(key, task)
        if self._may_be_there(task) and (receipt := self._reconcile(key, task, uid)):
            return receipt
        return self._send(key)

    def _may_be_there(self, task: Resource) -> bool:
        """Whether it was sent and nobody knows how that ended."""
        state, fault = registration.state_of(task), registration.fault_of(task)
        if state is State.SENT:
            return not fault
        is_known = bool(fault) and classify(fault).again is Again.RECONCILE
        return is_known or state is State.NO_RESPONSE

    def _revive(self, tx: Transaction, key: ResourceKey) -> None:
        task = desk.task_at(tx, key)
        if task is not None and registration.state_of(task) in (State.REJECTED, State.NO_RESPONSE):
            # With a time, so that this very attempt sends it and no new delivery is made.
            revived = registration.moved(task, State.QUEUED, tx.now, due=tx.now)
            desk.put(tx, key, {**revived, "status": "received"})

    def _make(self, key: ResourceKey, task: Resource) -> str:
        """Compose, sign and store the next version of the document."""
        try:
            kind, period = registration.kind_of(task), registration.period_of(task)
            plan = registration.plan_of(task)
            for_whom = task["for"]["reference"]
        except (ValueError, KeyError, IndexError):
            raise DeliveryRejected(f"{key} was altered: it says no more what to make") from None
        refused = registration.refused_uids(task)
        place = Place(
            document.version_uid(key, len(refused) + 1),
            document.version_uid(key, 0),
            len(refused) + 1,
            "",
        )
        facts = gather(self._around, plan, kind, period)
        content = compose_content(facts, kind, period, place, self._house, self._around.now())
        signed = self._sign(content)
        made = document.resources(content, signed, for_whom, key)
        return self._around.commit(lambda tx: desk.keep_document(tx, key, place.uid, made))

    def _sign(self, content: Content) -> SignedFile:
        pair = self._keys.doctors.get(content.author.snils)
        if pair is None:
            raise DeliveryRejected("there is no signing key of the document's author")
        file = compose(content)
        doctor = self._signer.sign(file, pair)
        organization = self._signer.sign(file, self._keys.organization)
        signed = SignedFile(file, doctor, organization, b"")
        return signed._replace(request=soap.register_request(content, signed.checksum))

    def _send(self, key: ResourceKey) -> str:
        sending = self._around.commit(lambda tx: desk.begin_sending(tx, key))
        if sending is None:
            return "answered meanwhile"
        signed = document.signed_file(sending.uid, self._resource)
        if signed is None:
            raise DeliveryRejected(f"a part of DocumentReference/{sending.uid} is not there")
        answer = self._client.register(signed.request, sending.message_id)
        if answer.is_success:
            self._around.commit(lambda tx: desk.note_accepted(tx, key))
            return f"accepted {sending.message_id}"
        fault, text = worst(answer.errors), desk.describe(answer.errors)
        if fault.again is Again.RECONCILE:
            task = self._task(key) or {}
            receipt = self._reconcile(key, task, sending.uid)
            if not receipt:
                # It is there and not yet registered: the callback will tell.
                self._around.commit(lambda tx: desk.note_accepted(tx, key))
            return receipt or f"accepted before {sending.message_id}"
        if fault.again is Again.LATER:
            self._around.commit(lambda tx: desk.note_passing_fault(tx, key, fault, text))
            wait = min(fault.delay, self._patience.longest_wait)
            # A limit is on all that we send; anything else is about this document.
            raise (DeliveryDeferred if fault.code == RATE_LIMIT else DeliveryPending)(text, wait)
        self._around.commit(lambda tx: desk.note_refused(tx, key, fault.code, text))
        raise DeliveryRejected(text)

    def _reconcile(self, key: ResourceKey, task: Resource, uid: str) -> str:
        """Look for the document at the registry instead of sending it; "" if it has none."""
        message_id = registration.next_message_id(f"{key.resource_id}/search", task)
        found = self._client.find(uid, self._house.organization.oid, message_id)
        if found is None:
            return ""
        self._around.commit(
            lambda tx: desk.note_registered(tx, key, found.emdr_id, found.registered_at)
        )
        return f"registered before as {found.emdr_id}"

    def _ask_after(self, version: Version, since: datetime) -> None:
        task = version.resource()
        try:
            found = self._reconcile(version.key, task, registration.document_uid(task))
        except DeliveryDeferred:
            # A registry that is away is asked again at the next look.
            return
        if not found:
            self._around.commit(lambda tx: desk.note_silence(tx, version.key, since))
            _log.warning("the registry did not answer", extra={"task": str(version.key)})

    def _found(self, *criteria: tuple[str, str]) -> Sequence[Version]:
        query = search(self._around, "Task", (("code", _CODE), *criteria), _MOST_AT_ONCE)
        return self._around.commit(lambda tx: tx.search(query)).versions

    def _task(self, key: ResourceKey) -> Resource | None:
        task = self._resource(key)
        return task if task is not None and registration.is_registration(task) else None

    def _resource(self, key: ResourceKey) -> Resource | None:
        version = self._around.read(key)
        return None if version is None or version.is_deletion else version.resource()
