"""The chain of the audit trail: each record's digest covers the one before.

A record that was removed, changed, or put in between no longer fits what follows it. With
a key from outside (HMAC) nobody who can only write the store can make a chain that fits;
without one, whoever keeps a digest elsewhere can tell that all before it is as it was.
"""

import hmac
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import NamedTuple

from fhir_server.errors import StoreUnavailable

_NUMBERS = Struct(">QQ")


class ChainLink(NamedTuple):
    """A place in the chain: the number of a record, counting from 1, and its digest."""

    sequence: int
    digest: bytes


GENESIS = ChainLink(0, bytes(32))
"""What stands before the first record."""


def format_link(link: ChainLink) -> str:
    """`number:digest`, to be written down elsewhere."""
    return f"{link.sequence}:{link.digest.hex()}"


def parse_link(text: str) -> ChainLink:
    """What `format_link` wrote.

    Raises:
        ValueError: it did not write this.
    """
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 2 * len(GENESIS.digest):
        raise ValueError("a link of the chain is written number:digest")
    return ChainLink(int(number), bytes.fromhex(digest))


class ChainKeys:
    """The keys by their ids; "" is the one that was there before others had ids.

    Without any the chain is made with an empty key.
    """

    def __init__(self, by_id: Mapping[str, bytes]) -> None:
        self._by_id = {"": b""} if not any(by_id.values()) else dict(by_id)

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        return iter(self._by_id.items())

    def find(self, key_id: str) -> bytes | None:
        return self._by_id.get(key_id)

    def of(self, key_id: str) -> bytes:
        """Raises `StoreUnavailable`: what is appended without it would not fit."""
        found = self._by_id.get(key_id)
        if found is None:
            raise StoreUnavailable(
                f"the audit trail goes on with {told_key(key_id)}, not given here"
            )
        return found


NO_KEYS = ChainKeys({})


def told_key(key_id: str) -> str:
    """How a key is called in messages."""
    return f"the key {key_id} of FHIR_SERVER_AUDIT_KEYS" if key_id else "FHIR_SERVER_AUDIT_KEY"


class ChainedText(NamedTuple):
    """A stored record: `at` is in milliseconds since 1970, as the store has it."""

    sequence: int
    at: int
    text: bytes
    digest: bytes


def chained(previous: ChainLink, at: int, text: bytes, key: bytes) -> ChainedText:
    """The record behind `previous`."""
    sequence = previous.sequence + 1
    return ChainedText(sequence, at, text, _digest(previous.digest, sequence, at, text, key))


def check_chain(records: Iterable[ChainedText], after: ChainLink, key: bytes) -> Iterator[str]:
    """Faults of records that follow `after`, each told once.

    What follows a changed record is compared with what is written, so that one does not
    spoil all behind it.
    """
    number, digest, newest = after.sequence, after.digest, 0
    for record in records:
        number += 1
        if record.sequence != number:
            last = record.sequence - 1
            told = f"record {number}" if last == number else f"records {number} to {last}"
            yield f"{told}: missing"
            number = record.sequence
        elif not hmac.compare_digest(
            _digest(digest, number, record.at, record.text, key), record.digest
        ):
            yield f"record {number}: not what was written"
        if record.at < newest:
            yield f"record {number}: earlier than the one before"
        digest, newest = record.digest, max(newest, record.at)


def _digest(previous: bytes, sequence: int, at: int, text: bytes, key: bytes) -> bytes:
    return hmac.digest(key, previous + _NUMBERS.pack(sequence, at) + text, "sha256")
