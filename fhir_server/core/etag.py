"""Entity tags: version ids as `ETag`, `If-Match` and `If-None-Match` carry them.

https://hl7.org/fhir/R4/http.html#versioning
"""

import re
from typing import NamedTuple

from fhir_server.core.version import Version
from fhir_server.errors import InvalidRequest

_TAG = re.compile(r'\s*(?:W/)?(?:"([^"]*)"|([A-Za-z0-9\-.]{1,64}))\s*\Z')


class EntityTags(NamedTuple):
    """What a condition header lists; `is_any` is ``*``."""

    tags: frozenset[str] = frozenset()
    is_any: bool = False

    def match(self, current: Version | None) -> bool:
        """Whether `current` is one of them; ``*`` is anything that exists."""
        if current is None:
            return False
        if self.is_any:
            return not current.is_deletion
        return str(current.version_id) in self.tags


def format(version_id: int) -> str:  # noqa: A001 - `etag.format`, beside `parse`
    """The weak entity tag of a version."""
    return f'W/"{version_id}"'


def parse(header: str) -> EntityTags:
    """A list of entity tags, weak or strong; a bare version id is understood too.

    Raises:
        InvalidRequest: anything else; a condition must not be lost by a slip of the pen.
    """
    if header.strip() == "*":
        return EntityTags(is_any=True)
    tags = set()
    for part in header.split(","):
        found = _TAG.match(part)
        if found is None:
            raise InvalidRequest('an entity tag is written W/"1", several with commas, or *')
        tags.add(found[1] if found[1] is not None else found[2])
    return EntityTags(frozenset(tags))
