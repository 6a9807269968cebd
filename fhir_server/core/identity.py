"""What a resource is called: its type and id.

https://hl7.org/fhir/R4/resource.html#id
"""

import re
from typing import NamedTuple

_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}\Z")


class ResourceKey(NamedTuple):
    """`Patient/42`: the identity of a resource on this server, over all its versions."""

    resource_type: str
    resource_id: str

    def __str__(self) -> str:
        return f"{self.resource_type}/{self.resource_id}"


def is_resource_id(text: str) -> bool:
    """Whether `text` is a legal logical id."""
    return _ID.match(text) is not None
