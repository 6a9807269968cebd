"""The lines of an export: each version as it is, chained by a digest.

A line is JSON: the version's place in the commit order, who and when it is, and its body,
spliced in byte for byte. The digest of a line covers all lines before it, so one value
vouches for a whole history, and any whole number of lines is a store as it once was.
"""

import hashlib
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from fhir_server.core.identity import ResourceKey, is_resource_id
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Interaction, Version, format_instant
from fhir_server.errors import FhirError, InvalidResource

FORMAT = "fhir-server-versions"
FORMAT_VERSION = 1


class Chain:
    """The digest of lines in their order: SHA-256 of the digest before and the line."""

    def __init__(self) -> None:
        self._digest = bytes(32)

    def add(self, line: bytes) -> None:
        """`line` without its line break."""
        self._digest = hashlib.sha256(self._digest + line).digest()

    @property
    def digest(self) -> str:
        return self._digest.hex()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an export holds: the first `versions` lines of `file`, whose digest is `digest`.

    `counts` has the interactions of each resource type. From the sequence
    `undelivered_from` on there were deliveries under way; None if there were none.
    """

    format: str
    format_version: int
    file: str
    versions: int
    digest: str
    last_updated: str | None
    counts: dict[str, dict[str, int]]
    undelivered_from: int | None = None


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    sequence: int
    resource_type: str
    id: str
    version_id: int
    last_updated: str
    interaction: Interaction
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_encoder = msgspec.json.Encoder()
_line_decoder = msgspec.json.Decoder(_Line)
_manifest_decoder = msgspec.json.Decoder(Manifest)


class Restored(NamedTuple):
    """A version read back, and its parsed body; a deletion has none."""

    version: Version
    resource: Resource | None


def format_line(version: Version) -> bytes:
    """`version` as a line, without the line break; equal versions give equal lines."""
    key, version_id, last_updated, interaction, body, sequence = version
    if body is not None and b"\n" in body:
        raise ValueError(f"{key}: a stored body has no line break")
    return _encoder.encode(
        _Line(
            sequence,
            *key,
            version_id,
            format_instant(last_updated),
            interaction,
            msgspec.UNSET if body is None else msgspec.Raw(body),
        )
    )


def parse_line(line: bytes) -> Version:
    """The version that `format_line` wrote.

    Raises:
        InvalidResource: the line is no such version.
    """
    try:
        found = _line_decoder.decode(line)
        last_updated = datetime.fromisoformat(found.last_updated)
    except (msgspec.DecodeError, ValueError, UnicodeDecodeError, RecursionError):
        raise InvalidResource("the line is no version of an export") from None
    body = None if found.body is msgspec.UNSET else bytes(found.body)
    version = Version(
        ResourceKey(found.resource_type, found.id),
        found.version_id,
        last_updated,
        found.interaction,
        body,
        found.sequence,
    )
    is_sound = (
        is_resource_id(found.id)
        and found.sequence > 0
        and found.version_id > 0
        and last_updated.tzinfo is not None
        and (body is None) == (found.interaction == "delete")
        # Zone, milliseconds and the order of the names: one version has one line.
        and format_line(version) == line
    )
    if not is_sound:
        raise InvalidResource("the line is no version of an export")
    return version


def parse_body(version: Version) -> Restored:
    """`version` with its body understood.

    Raises:
        InvalidResource: the body is not that of this version.
    """
    if version.body is None:
        return Restored(version, None)
    try:
        resource = version.resource()
    except FhirError:
        raise InvalidResource(f"{version.key}: its body cannot be read") from None
    meta: Any = resource.get("meta")
    if (
        (resource.get("resourceType"), resource.get("id")) != version.key
        or not isinstance(meta, dict)
        or meta.get("versionId") != str(version.version_id)
        or meta.get("lastUpdated") != format_instant(version.last_updated)
    ):
        raise InvalidResource(f"{version.key}: its body says another id, version or time")
    return Restored(version, resource)


def is_line(line: bytes) -> bool:
    """Whether `line` looks like one of an export, and not like a resource."""
    return line.startswith(b'{"sequence":')


def format_manifest(manifest: Manifest) -> bytes:
    return msgspec.json.format(_encoder.encode(manifest), indent=2) + b"\n"


def parse_manifest(text: bytes) -> Manifest:
    """The manifest of an export.

    Raises:
        InvalidResource: it is none, or a newer release's.
    """
    try:
        manifest = _manifest_decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidResource("the manifest cannot be read") from None
    if (manifest.format, manifest.format_version) != (FORMAT, FORMAT_VERSION):
        raise InvalidResource("the manifest is of another format, or of a newer release")
    return manifest
