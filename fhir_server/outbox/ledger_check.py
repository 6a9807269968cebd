"""Verifying: whether the receipts are whole, and the ledger says what they say."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from fhir_server.core.receipt import NO_DIGEST, Receipt, check_chain
from fhir_server.store.ledger import DeliveryState, Ledger, ReceiptHead
from fhir_server.store.protocol import Delivery

_PAGE = 500
_SHOWN = 100
_UNDER_WAY = (DeliveryState.QUEUED, DeliveryState.SENT)


class LedgerCheck(NamedTuple):
    """Where each sink's receipts end, what was looked at, and what is wrong with it."""

    heads: Mapping[str, ReceiptHead]
    deliveries: int
    faults: tuple[str, ...]


def check_ledger(
    ledger: Ledger, sink: str | None = None, anchors: Mapping[str, tuple[int, str]] = {}
) -> LedgerCheck:
    """Look at every receipt and delivery, in pages, of one sink or of all.

    `anchors` are number and digest of a receipt of each sink as they were once told: who
    can write the store can make the whole chain anew, and that shows only from outside.
    """
    heads = {n: head for n, head in ledger.receipt_heads().items() if sink in (None, n)}
    faults = [
        fault
        for name in sorted({*heads, *(n for n in anchors if sink in (None, n))})
        for fault in _check_sink(ledger, name, heads.get(name), anchors.get(name))
    ]
    count = 0
    for delivery, receipt in _deliveries(ledger, sink):
        count += 1
        if (fault := _disagreement(delivery, receipt)) and len(faults) < _SHOWN:
            faults.append(fault)
    return LedgerCheck(heads, count, tuple(faults[:_SHOWN]))


def _check_sink(
    ledger: Ledger, sink: str, head: ReceiptHead | None, anchor: tuple[int, str] | None
) -> Iterator[str]:
    number, digest = 0, NO_DIGEST
    is_anchored = anchor is None or anchor == (0, NO_DIGEST)
    while page := ledger.receipts(sink, number, _PAGE):
        yield from check_chain(page, number, digest)
        is_anchored = is_anchored or any((r.number, r.digest) == anchor for r in page)
        number, digest = page[-1].number, page[-1].digest
    # Receipts that were written meanwhile are behind the head that was read before.
    if head is not None and number < head.number:
        yield f"{sink}: receipts {number + 1} to {head.number} are missing"
    if head is not None and number == head.number and digest != head.digest:
        yield f"{sink}: the last receipt is not the one that was written last"
    if not is_anchored:
        yield f"{sink}: the chain does not pass through the receipt that was told before"


def _deliveries(ledger: Ledger, sink: str | None) -> Iterator[tuple[Delivery, Receipt | None]]:
    """Each delivery with its last receipt; None where that is not there."""
    after = 0
    while page := ledger.list(sink, (), _PAGE, after):
        after = page[-1].delivery_id
        numbers = ledger.receipt_numbers([each.delivery_id for each in page])
        wanted = {(d.sink, numbers.get(d.delivery_id, 0)) for d in page}
        found = {
            key: receipt
            for key in wanted
            if key[1]
            for receipt in ledger.receipts(key[0], key[1] - 1, 1)
            if receipt.number == key[1]
        }
        # Read again: a state and its receipt belong together only in one moment.
        again = {d.delivery_id: d for d in ledger.list(sink, (), _PAGE, page[0].delivery_id - 1)}
        for each in page:
            if again.get(each.delivery_id) == each:
                yield each, found.get((each.sink, numbers.get(each.delivery_id, 0)))


def _disagreement(delivery: Delivery, receipt: Receipt | None) -> str:
    name = f"delivery {delivery.delivery_id} to {delivery.sink}"
    if receipt is None:
        is_open = delivery.state in _UNDER_WAY
        return "" if is_open else f"{name} is {delivery.state} and there is no receipt of it"
    reference = f"{delivery.key}/_history/{delivery.version_id}"
    if (delivery.delivery_id, delivery.sequence, reference) not in receipt.lines:
        return f"{name} is not what receipt {receipt.number} is about"
    if delivery.state in _UNDER_WAY:
        is_queued = receipt.state == DeliveryState.QUEUED
        return "" if is_queued else f"{name} is {delivery.state}, its receipt {receipt.state}"
    if receipt.state != delivery.state:
        return f"{name} is {delivery.state}, its receipt {receipt.state}"
    if delivery.state is DeliveryState.SUPERSEDED:
        return ""
    is_done = delivery.state in (DeliveryState.ACCEPTED, DeliveryState.REGISTERED)
    said = delivery.receipt if is_done else delivery.reason
    return "" if said == receipt.detail else f"{name} says another than receipt {receipt.number}"
