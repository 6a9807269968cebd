"""The text of a reference: what it points to, as far as its own words say.

https://hl7.org/fhir/R4/references.html#literal
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

_ID = r"[A-Za-z0-9\-.]{1,64}"
_RELATIVE = re.compile(rf"([A-Za-z]+)(?:/{_ID}(?:/_history/{_ID})?|\?[^\x00-\x20]+)")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:[^\x00-\x20]+")


class Pointing(NamedTuple):
    """Where a reference points: a type here, or something contained, or elsewhere."""

    resource_type: str | None = None
    contained_id: str | None = None


def read(text: str) -> Pointing | None:
    """`Type/id`, `Type/id/_history/1`, `Type?criteria`, `#id`, an absolute URI; else None."""
    if text.startswith("#"):
        return Pointing(contained_id=text[1:])
    relative = _RELATIVE.fullmatch(text)
    if relative:
        return Pointing(resource_type=relative[1])
    return Pointing() if _ABSOLUTE.fullmatch(text) else None


def plain_pattern(resource_types: Iterable[str]) -> str:
    """The references to these types that need no second look, and those to elsewhere."""
    names = "|".join(sorted(resource_types))
    return (
        rf"^(?:(?:{names})/{_ID}(?:/_history/{_ID})?"
        r"|(?:urn:(?:uuid|oid):|https?://)[^\x00-\x20]+)$"
    )
