"""References: what the text of a Reference or a canonical points to.

https://hl7.org/fhir/R4/references.html
"""

import re
from functools import lru_cache
from typing import NamedTuple

_LOCAL = re.compile(
    r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/([A-Za-z0-9\-.]{1,64}))?"
)
_VERSIONED_URL = re.compile(
    r"(.+/[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})/_history/([A-Za-z0-9\-.]{1,64})"
)


class Reference(NamedTuple):
    """Either a resource of this server by type and id, or a `url`; perhaps of a version."""

    resource_type: str
    resource_id: str
    url: str
    version: str

    @property
    def is_local(self) -> bool:
        return self.url == ""


def parse(text: str) -> Reference | None:
    """What `Reference.reference` points to; None for a contained resource or nothing.

    What is neither `Type/id` nor an absolute URL is taken for a URL as it stands.
    """
    # Many readings are of few patients and devices. Long texts would fill the memory.
    return _parse_short(text) if len(text) <= _SHORT else _parse(text)


def _parse(text: str) -> Reference | None:
    local = _LOCAL.fullmatch(text)
    if local is not None:
        return Reference(local[1], local[2], "", local[3] or "")
    if not text or text.startswith("#"):
        return None
    versioned = _VERSIONED_URL.fullmatch(text)
    if versioned is not None:
        return Reference("", "", versioned[1], versioned[2])
    return Reference("", "", text, "")


_SHORT = 200
_parse_short = lru_cache(maxsize=16_384)(_parse)


def parse_canonical(text: str) -> Reference | None:
    """What a canonical points to: its URL, and the version behind ``|``."""
    url, _, version = text.partition("|")
    if not url or url.startswith("#"):
        return None
    return Reference("", "", url, version)


def within(text: str, base_url: str) -> str:
    """`text` relative to `base_url`, if it is an absolute URL below it; else as it is."""
    if base_url and text.startswith(base_url) and text[len(base_url) :].startswith("/"):
        return text[len(base_url) + 1 :]
    return text
