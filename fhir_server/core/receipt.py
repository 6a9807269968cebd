"""Receipts: what became of deliveries, each tied by a digest to the one before it.

A receiver's receipts are numbered from 1 without a gap, and each digest covers the one
before. So a receipt that was changed, left out or put in between no longer fits, and
whoever keeps one digest elsewhere can tell that all before it is as it was.
"""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from fhir_server.core import resource_json
from fhir_server.core.version import format_instant

NO_DIGEST = ""
"""What stands before the first receipt of a sink."""


class ReceiptLine(NamedTuple):
    """A delivery that a receipt is about, and the version that was to be delivered."""

    delivery_id: int
    sequence: int
    reference: str  # Type/id/_history/version


class Receipt(NamedTuple):
    """Deliveries of one sink that came to the same end in the same moment.

    `state` is the ledger's word; `detail` is the receiver's receipt, or the reason, free of
    patient data; `at` is UTC with whole milliseconds.
    """

    sink: str
    number: int
    at: datetime
    state: str
    detail: str
    lines: tuple[ReceiptLine, ...]
    digest: str = NO_DIGEST


def sealed(receipt: Receipt, previous: str) -> Receipt:
    """The receipt with its digest, behind the one whose digest is `previous`."""
    return receipt._replace(digest=_digest(receipt, previous))


def check_chain(receipts: Iterable[Receipt], number: int, digest: str) -> Iterator[str]:
    """Faults of a sink's receipts that follow the receipt `number` with its `digest`.

    A fault is told once: what follows it is compared with what is written, so that one
    changed receipt does not spoil all behind it.
    """
    for receipt in receipts:
        number += 1
        if receipt.number != number:
            yield f"{receipt.sink}: receipts {number} to {receipt.number - 1} are missing"
            number = receipt.number
        elif _digest(receipt, digest) != receipt.digest:
            yield f"{receipt.sink}: receipt {number} is not what was written"
        digest = receipt.digest


def _digest(receipt: Receipt, previous: str) -> str:
    said = [
        previous,
        receipt.sink,
        receipt.number,
        format_instant(receipt.at),
        receipt.state,
        receipt.detail,
        [list(line) for line in receipt.lines],
    ]
    return hashlib.sha256(resource_json.format(said)).hexdigest()
