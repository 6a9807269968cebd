"""Decimals as bytes that sort as the numbers do.

SQLite would keep a decimal as a float and call 0.1 + 0.2 something else than 0.3; as
bytes, comparisons in SQL are exact at any size. A key is the sign, the exponent of
0.ddd x 10^n and the digits, two a byte; for negative numbers all of it complemented.
"""

from decimal import Decimal
from functools import lru_cache

_NEGATIVE, _ZERO, _POSITIVE = b"\x00", b"\x01", b"\x02"
_SHORT = 100
_BIAS = 1 << 63
_COMPLEMENT = bytes(255 - n for n in range(256))


@lru_cache(maxsize=65_536)
def decimal_key(value: Decimal) -> bytes:
    """The key of a finite `value`: equal numbers have equal keys, whatever their zeros."""
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise ValueError("only finite numbers can be indexed")
    text = "".join(map(str, digits)).lstrip("0")
    exponent += len(text)
    text = text.rstrip("0")
    if not text:
        return _ZERO
    if len(text) % 2:
        text += "0"
    # Pairs count from 1, so that complemented none is the end of a negative key.
    pairs = bytes(int(text[i : i + 2]) + 1 for i in range(0, len(text), 2))
    magnitude = _exponent(exponent) + pairs
    if sign:
        # The end sorts behind every digit: -1.2 is more than -1.23.
        return _NEGATIVE + magnitude.translate(_COMPLEMENT) + b"\xff"
    return _POSITIVE + magnitude


def _exponent(exponent: int) -> bytes:
    """One byte for the usual, nine for the absurd; in order."""
    if -_SHORT <= exponent <= _SHORT:
        return bytes((0x80 + exponent,))
    return (b"\x01" if exponent < 0 else b"\xfe") + (exponent + _BIAS).to_bytes(8, "big")
