"""Which format a request is in and which one its answer may have: FHIR's JSON or XML.

https://hl7.org/fhir/R4/http.html#mime-type
"""

from functools import lru_cache
from typing import NamedTuple

from fhir_server.core.patch.patch import (
    FHIR_JSON,
    FHIR_XML,
    JSON_PATCH,
    MERGE_PATCH,
    PATCH_TYPES,
    PLAIN_JSON,
)
from fhir_server.errors import NotAcceptable, UnsupportedMediaType

__all__ = ["FHIR_JSON", "FHIR_XML"]

_JSON_TYPES = (FHIR_JSON, "application/json", "text/json")
_XML_TYPES = (FHIR_XML, "application/xml", "text/xml")
_WRITTEN = frozenset((*_JSON_TYPES, *_XML_TYPES))
_FORMATS = {
    "json": FHIR_JSON,
    "application/json+fhir": FHIR_JSON,
    "xml": FHIR_XML,
    "application/xml+fhir": FHIR_XML,
}
_CHARSETS = ("utf-8", "utf8", "us-ascii")
_FHIR_VERSIONS = ("4.0", "4.0.1")


class MediaRange(NamedTuple):
    """One part of an `Accept` header, in lower case."""

    type: str
    parameters: dict[str, str]
    quality: float

    @property
    def names_other_version(self) -> bool:
        version = self.parameters.get("fhirversion")
        return version is not None and version not in _FHIR_VERSIONS


@lru_cache(maxsize=256)
def choose_media_type(
    accept: str | None, asked_format: str | None, content_type: str | None = None
) -> str:
    """The media type of the answer. `_format` wins over `Accept`, as R4 has it.

    A client that takes anything is answered in the format of its own body.

    Raises:
        NotAcceptable: the client takes nothing that this server writes.
    """
    if asked_format is not None:
        # In a query string the + of application/fhir+json has become a space.
        media_type, mark, parameters = asked_format.partition(";")
        asked = _parse_range(media_type.strip().replace(" ", "+") + mark + parameters)
        media_type = _FORMATS.get(asked.type, asked.type)
        if media_type not in _WRITTEN or asked.names_other_version:
            raise NotAcceptable("_format: this server writes FHIR R4 as JSON and XML")
        return media_type
    own = FHIR_XML if content_type and _media_type(content_type) in _XML_TYPES else FHIR_JSON
    if not accept:
        return own
    ranges = sorted(
        (_parse_range(part) for part in accept.split(",")), key=lambda r: r.quality, reverse=True
    )
    refused = {r.type for r in ranges if r.quality == 0}
    for wanted in ranges:
        if wanted.quality > 0 and not wanted.names_other_version:
            media_type = _FORMATS.get(wanted.type, wanted.type)
            if media_type in _WRITTEN:
                return media_type
            if media_type in ("*/*", "application/*"):
                for possible in (own, FHIR_JSON, FHIR_XML):
                    if possible not in refused:
                        return possible
            if media_type == "text/*":
                return "text/xml" if own == FHIR_XML else "text/json"
    raise NotAcceptable("Accept: this server writes FHIR R4 as JSON and XML")


@lru_cache(maxsize=256)
def takes(accept: str | None, content_type: str) -> bool:
    """Whether `accept` names this type, or all of its kind (`image/*`), which is none of FHIR's."""
    offered = _parse_range(content_type).type
    named = (offered, f"{offered.partition('/')[0]}/*")
    ranges = [_parse_range(part) for part in (accept or "").split(",")]
    return any(r.quality > 0 and r.type in named for r in ranges)


@lru_cache(maxsize=256)
def is_fhir(content_type: str) -> bool:
    """Whether a body of this type is a resource and not what a Binary holds."""
    return _media_type(content_type) in _WRITTEN


@lru_cache(maxsize=256)
def is_xml(media_type: str) -> bool:
    """Whether `media_type` is one of those that FHIR's XML goes by."""
    return media_type in _XML_TYPES


@lru_cache(maxsize=256)
def body_media_type(content_type: str | None) -> str:
    """The format of a body of this type: `FHIR_JSON` or `FHIR_XML`.

    Raises:
        UnsupportedMediaType: it is neither; a body without a type neither.
    """
    found = _check(content_type, f"this server reads {FHIR_JSON} and {FHIR_XML}")
    if found in _JSON_TYPES:
        return FHIR_JSON
    if found in _XML_TYPES:
        return FHIR_XML
    raise UnsupportedMediaType(f"this server reads {FHIR_JSON} and {FHIR_XML}")


@lru_cache(maxsize=256)
def patch_media_type(content_type: str | None) -> str:
    """Which kind of patch a body of this type is: one of `PATCH_TYPES`, or `PLAIN_JSON`.

    Raises:
        UnsupportedMediaType: none of them.
    """
    known = f"a patch is one of {', '.join(PATCH_TYPES)}"
    found = _check(content_type, known)
    if found in (JSON_PATCH, MERGE_PATCH, PLAIN_JSON):
        return found
    if found in _JSON_TYPES:
        return FHIR_JSON
    if found in _XML_TYPES:
        return FHIR_XML
    raise UnsupportedMediaType(known)


def _check(content_type: str | None, known: str) -> str:
    """The media type, where it has no parameter that says something else."""
    if not content_type:
        raise UnsupportedMediaType(f"the body needs a Content-Type; {known}")
    given = _parse_range(content_type)
    if given.parameters.get("charset", "utf-8") not in _CHARSETS:
        raise UnsupportedMediaType("FHIR is UTF-8")
    if given.names_other_version:
        raise UnsupportedMediaType("this server reads FHIR R4 (4.0)")
    return _FORMATS.get(given.type, given.type)


def _media_type(content_type: str) -> str:
    found = _parse_range(content_type).type
    return _FORMATS.get(found, found)


def is_form(content_type: str | None) -> bool:
    """Whether a body is the form that a search is posted with."""
    return (
        content_type is not None
        and _parse_range(content_type).type == "application/x-www-form-urlencoded"
    )


def _parse_range(text: str) -> MediaRange:
    media_type, *rest = (part.strip().lower() for part in text.split(";"))
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip()] = value.strip().strip('"')
    try:
        quality = float(parameters.pop("q", "1"))
    except ValueError:
        quality = 0.0
    return MediaRange(media_type, parameters, quality)
