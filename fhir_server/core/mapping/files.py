"""The text of one mapping's files, as they were found."""

from typing import NamedTuple


class ExampleFiles(NamedTuple):
    """One example: a payload and, where it is there, what it must become."""

    case: str
    payload_text: str
    expected_text: str | None


class MappingFiles(NamedTuple):
    """A mapping's folder. `path` is that of the mapping file itself, for messages.

    `payload_schema_text` None: the folder holds no payload.schema.json. `unreadable` is
    why the files could not be read (not UTF-8, no permission); then all else is empty.
    """

    name: str
    path: str
    mapping_text: str
    payload_schema_text: str | None = None
    examples: tuple[ExampleFiles, ...] = ()
    unreadable: str = ""
