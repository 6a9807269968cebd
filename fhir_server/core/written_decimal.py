"""WrittenDecimal: a decimal that Python would spell in another way than it was written."""

from decimal import Decimal
from typing import Any, Self


class WrittenDecimal(Decimal):
    """``0.0000001`` or ``1e5``: a `Decimal` like any other that says itself as it was read.

    What is calculated from it is a plain `Decimal`.
    """

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number._text = text
        return number

    def __str__(self) -> str:
        return self._text

    def __reduce__(self) -> tuple[Any, ...]:
        return WrittenDecimal, (self._text,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def read_decimal(text: str) -> Decimal:
    """The number that `text` writes; `str` of it is `text` again.

    Raises:
        decimal.InvalidOperation: it is none, or beyond what decimals hold.
    """
    number = Decimal(text)
    return number if str(number) == text else WrittenDecimal(text)
