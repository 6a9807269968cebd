"""The `Prefer` header: what a client would like, and is never refused for.

https://hl7.org/fhir/R4/http.html#ops
"""

import re
from functools import lru_cache
from typing import Literal, NamedTuple, cast

Returns = Literal["minimal", "representation", "OperationOutcome"]

_SEPARATORS = re.compile(r"[,;]")
_RETURNS = ("minimal", "representation", "OperationOutcome")


class Preferences(NamedTuple):
    """`returns` None is the server's choice; `is_strict` is `handling=strict`, `is_lenient` what
    it is with `lenient`. `is_async` is `respond-async`.
    """

    returns: Returns | None = None
    is_strict: bool = False
    is_lenient: bool = False
    is_async: bool = False


@lru_cache(maxsize=256)
def parse(header: str | None) -> Preferences:
    """What `header` says; what it says wrong is not said."""
    returns: Returns | None = None
    is_strict = is_lenient = is_async = False
    for part in _SEPARATORS.split(header or ""):
        name, _, value = (text.strip() for text in part.partition("="))
        value = value.strip('"')
        if name == "return" and value in _RETURNS:
            returns = cast("Returns", value)
        elif name == "handling":
            is_strict, is_lenient = value == "strict", value == "lenient"
        elif name == "respond-async":
            is_async = True
    return Preferences(returns, is_strict, is_lenient, is_async)
