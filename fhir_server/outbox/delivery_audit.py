"""AuditEvents of what adapters were given, and were not, written behind the receipts."""

from collections.abc import Iterable, Sequence

from fhir_server.core.delivery_event import delivery_event, event_key, is_told
from fhir_server.core.identity import ResourceKey
from fhir_server.core.receipt import Receipt
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import next_version
from fhir_server.core.whom import patient_of
from fhir_server.store.protocol import Outbox, Transaction

_BATCH = 100


class DeliveryAudit:
    """Follows the receipts of `sinks`; any number of processes may do it for one store.

    A receipt's event has the receipt's id, so it is written once, and the place that was
    reached is moved only behind events that are durable: a crash repeats, and skips nothing.
    """

    def __init__(self, outbox: Outbox, sinks: Iterable[str]) -> None:
        self._outbox = outbox
        self._sinks = tuple(sinks)

    def step(self) -> int:
        """Write the events of some receipts; of how many.

        Raises:
            StoreUnavailable: the store is away; they are written later.
        """
        if not self._sinks:
            return 0
        heads = self._outbox.receipt_heads()
        count = 0
        for sink in self._sinks:
            head = heads.get(sink)
            if head is None or head.audited >= head.number:
                continue
            receipts = self._outbox.receipts(sink, head.audited, _BATCH)
            if receipts:
                self._write(receipts)
                self._outbox.audited(sink, receipts[-1].number)
                count += len(receipts)
        return count

    def _write(self, receipts: Sequence[Receipt]) -> None:
        events = [
            (event_key(receipt), delivery_event(receipt, self._patients(receipt)))
            for receipt in receipts
            if is_told(receipt) and not _is_of_audits(receipt)
        ]
        if events:
            self._outbox.commit(lambda tx: _put_new(tx, events))

    def _patients(self, receipt: Receipt) -> list[str]:
        found: dict[str, None] = {}
        for line in receipt.lines:
            resource_type, resource_id, _, version_id = line.reference.split("/")
            key, number = ResourceKey(resource_type, resource_id), int(version_id)
            version = self._outbox.read(key, number)
            if version is not None and version.body is None:
                version = self._outbox.read(key, number - 1)
            if version is not None and version.body is not None:
                found[patient_of(version.resource())] = None
        return [patient for patient in found if patient]


def _is_of_audits(receipt: Receipt) -> bool:
    # An AuditEvent of an AuditEvent's delivery would be delivered as well, without end.
    return any(line.reference.startswith("AuditEvent/") for line in receipt.lines)


def _put_new(tx: Transaction, events: Sequence[tuple[ResourceKey, Resource]]) -> None:
    for key, event in events:
        if tx.read(key) is None:
            tx.put(*next_version(None, key, event, tx.now))
