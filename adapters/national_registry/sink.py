"""The national registry as a sink: a patient's day in one FHIR transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from adapters.national_registry import acknowledgement
from adapters.national_registry.acknowledgement import Awaited
from adapters.national_registry.client import AT_WORK, AnswerLost, Later, RegistryClient
from adapters.national_registry.masked import masked_changes, masked_known
from adapters.national_registry.port import Commit, Read, State, Surroundings, Transaction
from adapters.national_registry.precedence import check_told
from adapters.national_registry.section import Section
from adapters.national_registry.translate import (
    Change,
    Rules,
    group,
    is_wanted,
    needed,
    patient_change,
    translate,
    translate_patient,
)
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, next_version
from fhir_server.errors import DeliveryPending, DeliveryRejected
from fhir_server.outbox.endpoint import OutboundPolicy, check_url
from fhir_server.outbox.idempotency import idempotency_key as key_of
from fhir_server.outbox.mask import Mask
from fhir_server.outbox.session import OutboundSession

NAME = "national-registry"


class NationalRegistrySink:
    """Sends what readings became, and changes of whose they are; nothing else."""

    def __init__(
        self,
        name: str,
        client: RegistryClient,
        read: Read,
        state: State,
        commit: Commit,
        rules: Rules,
        batch_size: int,
        mask: Mask | None = None,
    ) -> None:
        self._name = name
        self._client = client
        self._read = read
        self._state = state
        self._commit = commit
        self._rules = rules
        self._batch_size = batch_size
        self._mask = mask

    @property
    def name(self) -> str:
        return self._name

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def group(self, version: Version) -> str | None:
        """The patient's day; of a Patient, itself.

        A state that the registry is not to have is wanted nevertheless when the one
        before it was sent: it has to be taken back.
        """
        if version.key.resource_type == "Patient":
            told = patient_change([self._change(version)], self._rules)
            return None if told is None else str(version.key)
        if version.key.resource_type != "Observation":
            return None
        for resource in (_body(version), self._before(version)):
            if resource is not None and is_wanted(resource, self._rules):
                return group(resource)
        return None

    def deliver(self, versions: Sequence[Version], idempotency_key: str) -> str:
        receipts: list[str] = []
        left = list(versions)
        while left:
            first = left[0]
            awaited = self._awaited(first)
            told = left
            if awaited is not None and awaited.covered <= set(map(acknowledgement.reference, left)):
                # Sent before: what joined its group since goes by itself.
                told = [v for v in left if acknowledgement.reference(v) in awaited.covered]
                receipts.append(self._answer(first, awaited))
            else:
                key = idempotency_key if left == list(versions) else self._key(left)
                receipts.append(self._send(left, key))
            left = [version for version in left if version not in told]
        return " ".join(receipts)

    def _send(self, versions: Sequence[Version], idempotency_key: str) -> str:
        bundle = self._bundle(versions)
        if not bundle["entry"]:
            return "nothing to tell"
        said = self._client.transact(bundle, idempotency_key)
        if isinstance(said, Later):
            task = acknowledgement.task(versions, said.url, len(bundle["entry"]))
            self._keep(acknowledgement.task_key(self._name, versions[0]), task)
            raise DeliveryPending(AT_WORK, said.retry_after)
        return said

    def _answer(self, first: Version, awaited: Awaited) -> str:
        """What the registry says of what it took before."""
        if not awaited.is_open:
            return awaited.receipt
        try:
            receipt = self._client.ask(awaited.url, awaited.entries)
            if self._mask is not None:
                receipt = self._mask.digest(receipt)
        except DeliveryRejected as rejected:
            self._close(first, "failed", str(rejected))
            raise
        except AnswerLost:
            self._close(first, "failed", "the registry lost it")
            raise DeliveryPending("the registry lost what it had taken", 0.0) from None
        self._close(first, "completed", receipt)
        return receipt

    def _bundle(self, versions: Sequence[Version]) -> Resource:
        changes = [self._change(version) for version in versions]
        told = changes
        if self._mask is not None:
            told = masked_changes(zip(versions, changes, strict=True), self._mask, self._rules)
        if versions[0].key.resource_type == "Patient":
            return translate_patient(told, self._rules)
        known = {}
        for key in sorted(needed(changes)):
            found = self._read(key)
            if found is None or (resource := _body(found)) is None:
                continue
            if key.resource_type == "Patient":
                check_told(
                    found,
                    max(version.sequence for version in versions),
                    self._read,
                    lambda sequence: self._state(self._name, sequence),
                    self._rules,
                )
            known[key] = resource
        if self._mask is not None:
            known = masked_known(known, self._mask)
        return translate(told, known, self._rules)

    def _key(self, versions: Sequence[Version]) -> str:
        key = key_of(self._name, versions)
        return key if self._mask is None else self._mask.digest(key)

    def _change(self, version: Version) -> Change:
        return Change(version.key, version.version_id, _body(version), self._before(version))

    def _awaited(self, first: Version) -> Awaited | None:
        found = self._read(acknowledgement.task_key(self._name, first))
        resource = None if found is None else _body(found)
        return None if resource is None else acknowledgement.awaited(resource)

    def _close(self, first: Version, status: str, receipt: str) -> None:
        key = acknowledgement.task_key(self._name, first)
        found = self._read(key)
        if found is not None and (resource := _body(found)) is not None:
            self._keep(key, acknowledgement.closed(resource, status, receipt))

    def _keep(self, key: ResourceKey, resource: Resource) -> None:
        def decide(tx: Transaction) -> None:
            tx.put(*next_version(tx.read(key), key, resource, tx.now))

        self._commit(decide)

    def close(self) -> None:
        self._client.close()

    def _before(self, version: Version) -> Resource | None:
        if version.version_id == 1:
            return None
        previous = self._read(version.key, version.version_id - 1)
        return None if previous is None else _body(previous)


def from_settings(section: Mapping[str, Any], around: Surroundings) -> NationalRegistrySink:
    """The sink that `[adapters.national-registry]` describes.

    Keys: `url` (the registry's FHIR base), `token` (bearer), `ca_file`, `send_auxiliary`,
    `patient_systems`, `batch_size`, `prefer_async`, `connect_seconds`, `read_seconds`,
    `total_seconds`.

    Raises:
        ValueError: a key that is missing, unknown or of the wrong kind, or a URL that
            deliveries may not go to.
    """
    fields = Section(NAME, section)
    url = fields.text("url").rstrip("/")
    policy = OutboundPolicy(allow_private=around.allow_private_endpoints)
    check_url(url, policy)
    timeouts = fields.timeouts()
    rules = Rules(
        is_auxiliary_sent=fields.boolean("send_auxiliary", default=False),
        patient_systems=fields.texts("patient_systems", Rules().patient_systems),
    )
    batch_size = fields.count("batch_size", 100)
    token = fields.text("token", "") or None
    prefer_async = fields.boolean("prefer_async", default=False)
    session = OutboundSession(policy, timeouts, ca_file=fields.text("ca_file", "") or None)
    fields.check_all_known()
    client = RegistryClient(session, url, token, prefer_async=prefer_async)
    return NationalRegistrySink(
        NAME, client, around.read, around.state, around.commit, rules, batch_size, around.mask
    )


def _body(version: Version) -> Resource | None:
    return None if version.is_deletion else version.resource()
