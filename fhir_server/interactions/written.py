"""Written: what a writing interaction did."""

from typing import Literal, NamedTuple

from fhir_server.core.version import Version

Effect = Literal["created", "updated", "unchanged", "matched", "deleted", "absent"]


class Written(NamedTuple):
    """The current version behind a write, and what the write had to do with it.

    `unchanged` is an update that says what is stored already, `matched` a conditional
    create that found its resource, `absent` a deletion of what is not there (`version`
    is the earlier deletion, None if it never was). `deleted` without a version were several.
    """

    effect: Effect
    version: Version | None
