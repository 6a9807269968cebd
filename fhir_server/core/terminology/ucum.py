"""UCUM as a code system: its codes are a grammar, so they are recognized and never listed.

https://ucum.org/ucum. Read by `ucumvert`, which knows every atom and prefix of UCUM;
`core.quantity` knows fewer, but computes with them exactly.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache

from fhir_server.core.quantity import UCUM
from fhir_server.core.terminology.code_system import Concept

_LONGEST = 200


class UnitCodes:
    """UCUM's codes, case-sensitive form."""

    url = UCUM
    version: str | None = None
    name = "UCUM"
    is_complete = True
    is_listed = False
    is_short = False
    codes: Iterable[str] = ()

    def find(self, code: str) -> Concept | None:
        return Concept(code, code) if is_unit(code) else None

    def below(self, code: str) -> frozenset[str]:
        return frozenset({code})

    def above(self, code: str) -> frozenset[str]:
        return frozenset({code})

    def parents(self, code: str) -> tuple[str, ...]:
        return ()


@lru_cache(maxsize=4_096)
def is_unit(code: str) -> bool:
    """Whether `code` is a unit in UCUM's case-sensitive form."""
    if not code or len(code) > _LONGEST or not code.isascii():
        return False
    return _reader()(code)


@lru_cache(maxsize=1)
def _reader() -> Callable[[str], bool]:
    # Imported when a unit is asked for: with a library of physics behind it, it takes a while.
    from lark.exceptions import LarkError
    from ucumvert import get_ucum_parser

    parser = get_ucum_parser()

    def is_read(code: str) -> bool:
        try:
            parser.parse(code)
        except LarkError:
            return False
        return True

    return is_read
