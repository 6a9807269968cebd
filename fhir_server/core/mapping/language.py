"""What a mapping file may say, and what is wrong with one that says otherwise."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import jsonschema

from fhir_server.core import resource_json
from fhir_server.core.mapping import knowledge
from fhir_server.core.mapping.document import Position
from fhir_server.core.mapping.knowledge import Knowledge

DEFAULT_TIME_ZONE = "Europe/Moscow"


class MappingFault(NamedTuple):
    """One thing that is wrong, where: `line` and `column` count from 1."""

    path: str
    line: int
    column: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


class Language(NamedTuple):
    """The words (`mappings/mapping.schema.json`) and what they can be about.

    `time_zone` is that of stamps with no offset, in a mapping that names no zone.
    """

    schema: Any
    knowledge: Knowledge
    time_zone: str = DEFAULT_TIME_ZONE


def parse_language(
    schema_text: bytes, measurement_texts: Iterable[bytes], time_zone: str = DEFAULT_TIME_ZONE
) -> Language:
    """The language from `mapping.schema.json` and every `measurements.json`.

    Raises:
        ValueError: one of the files is not what it should be.
    """
    schema = resource_json.parse(schema_text)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"mapping.schema.json is no JSON Schema: {error.message}") from None
    return Language(schema, knowledge.parse(measurement_texts), time_zone)


def fault_at(path: str, position: Position, reason: str) -> MappingFault:
    return MappingFault(path, position.line, position.column, reason)
