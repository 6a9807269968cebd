"""What is wrong with a mapping file as it stands: syntax, words, expressions, meaning.

All faults at once, each with its line; the examples are `check`'s.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import jsonschema
from jsonschema.exceptions import best_match

from fhir_server.core.mapping import document as documents
from fhir_server.core.mapping.check_meaning import check_meaning
from fhir_server.core.mapping.clock import InvalidTimeError, zone_of
from fhir_server.core.mapping.document import Document, Path
from fhir_server.core.mapping.expression import InvalidExpressionError, compile_expression
from fhir_server.core.mapping.files import MappingFiles
from fhir_server.core.mapping.language import Language, MappingFault, fault_at
from fhir_server.core.mapping.mapping import PayloadSchema

Found = tuple[Path, str]

_EXPRESSION_KEYS = frozenset(
    {
        "absent",
        "ambiguous",
        "at",
        "comparator",
        "each",
        "exponent",
        "fault",
        "focus",
        "note",
        "now",
        "offset",
        "period",
        "system-at",
        "when",
    }
)
_LITERAL_KEYS = frozenset({"system"})
_STRPTIME = re.compile(r"%(.)")
_STRPTIME_KNOWN = frozenset("YmdHMSfzyjBbpI%")
_MAX_MESSAGE = 200


@dataclass(frozen=True, slots=True)
class Checked:
    """A document without fault, and the schema of its payloads."""

    document: Any
    schema: PayloadSchema


def check_document(files: MappingFiles, language: Language) -> Checked | tuple[MappingFault, ...]:
    """The document, or every fault of the mapping file and of the payload's schema."""
    if files.unreadable:
        return (MappingFault(files.path, 1, 1, files.unreadable),)
    document, syntax = documents.parse(files.mapping_text)
    faults = [fault_at(files.path, f.position, f.reason) for f in syntax]
    if document is not None:
        found = [*_check_words(document, language), *_check_name(document, files.name)]
        found += _check_expressions(document)
        found += _check_times(document)
        found += check_meaning(document.value, language.knowledge)
        faults += [
            fault_at(files.path, document.at(path), reason) for path, reason in _unique(found)
        ]
    schema, schema_faults = _check_payload_schema(files)
    faults += schema_faults
    if faults or document is None or schema is None:
        return tuple(sorted(faults, key=lambda f: (f.path, f.line, f.column)))
    return Checked(document.value, schema)


def _check_words(document: Document, language: Language) -> Iterator[Found]:
    validator = jsonschema.Draft202012Validator(language.schema)
    for error in validator.iter_errors(document.value):
        yield from _describe(error)


def _describe(error: jsonschema.ValidationError) -> Iterator[Found]:
    path: Path = tuple(error.absolute_path)
    keyword = error.validator
    rule: Any = error.validator_value
    schema: Any = error.schema
    if keyword in ("anyOf", "oneOf") and error.context:
        nearest = best_match(error.context)
        if nearest is not None and nearest.validator != "required":
            yield from _describe(nearest)
            return
        wanted = [
            str(name)
            for part in error.context
            if part.validator == "required"
            for name in _list(part.validator_value)
        ]
        yield path, "needs " + (" or ".join(f"`{name}`" for name in wanted) or "another form")
    elif keyword == "additionalProperties" and isinstance(error.instance, dict):
        known = schema.get("properties", {})
        for name in error.instance:
            if name not in known:
                words = ", ".join(sorted(known))
                yield (*path, name), f"`{name}` means nothing here; there are: {words}"
    elif keyword == "required":
        present = _dict(error.instance)
        missing = [name for name in rule if name not in present]
        yield path, "missing: " + ", ".join(f"`{name}`" for name in missing)
    elif keyword == "enum":
        yield path, "must be one of: " + ", ".join(str(v) for v in rule)
    elif keyword == "type":
        yield path, f"must be of type {rule}"
    elif keyword == "oneOf":
        yield path, "holds two things that exclude each other"
    elif keyword == "not":
        yield path, "holds two things that exclude each other: `system` and `system-at`"
    else:
        yield path, error.message[:_MAX_MESSAGE]


def _check_name(document: Document, name: str) -> Iterator[Found]:
    if isinstance(document.value, dict):
        stated = document.value.get("mapping")
        if isinstance(stated, str) and stated != name:
            yield ("mapping",), f"is called `{stated}`, but its folder `{name}`"


def _check_expressions(document: Document) -> Iterator[Found]:
    for path, text in _expressions(document.value, (), is_enrolment=False):
        try:
            compile_expression(text)
        except InvalidExpressionError as error:
            yield path, f"`{text}`, column {error.column + 1}: {error}"


def _expressions(value: Any, path: Path, *, is_enrolment: bool) -> Iterator[tuple[Path, str]]:
    """Every expression, with the place it stands at."""
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from _expressions(part, (*path, index), is_enrolment=is_enrolment)
    elif isinstance(value, dict):
        for key, part in value.items():
            here = (*path, key)
            if key == "is" or key == "special":
                continue
            if isinstance(part, str):
                is_in_identifier = path[-1:] in (("device",), ("patient",))
                if (
                    key in _EXPRESSION_KEYS
                    or (is_enrolment and key not in _LITERAL_KEYS)
                    or (key == "value" and is_in_identifier)
                ):
                    yield here, part
            else:
                yield from _expressions(
                    part, here, is_enrolment=is_enrolment or here == ("enrolment",)
                )


def _check_times(document: Document) -> Iterator[Found]:
    value = document.value
    if not isinstance(value, dict):
        return
    zones: list[tuple[Path, Any]] = [(("zone",), value.get("zone"))]
    for index, record in enumerate(_list(value.get("records"))):
        time = record.get("time") if isinstance(record, dict) else None
        if isinstance(time, dict):
            path: Path = ("records", index, "time")
            zones.append(((*path, "zone"), time.get("zone")))
            yield from _check_format(time, path)
    for path, zone in zones:
        if isinstance(zone, str):
            try:
                zone_of(zone)
            except InvalidTimeError as error:
                yield path, str(error)


def _check_format(time: dict[str, Any], path: Path) -> Iterator[Found]:
    written = time.get("format")
    if isinstance(written, str) and "%" in written:
        unknown = [f"%{c}" for c in _STRPTIME.findall(written) if c not in _STRPTIME_KNOWN]
        if unknown:
            yield (*path, "format"), f"unknown in a pattern: {', '.join(unknown)}"
        if not {"%d", "%j"} & set(re.findall("%.", written)):
            yield (*path, "format"), "the pattern names no day"
    if "offset-unit" in time and "offset" not in time:
        yield (*path, "offset-unit"), "there is no `offset` that it could be the unit of"


def _check_payload_schema(files: MappingFiles) -> tuple[PayloadSchema | None, list[MappingFault]]:
    path = str(PurePath(files.path).parent / "payload.schema.json")
    text = files.payload_schema_text
    if text is None:
        return None, [MappingFault(path, 1, 1, "missing: the JSON Schema of the payload")]
    document, syntax = documents.parse(text)
    faults = [fault_at(path, f.position, f.reason) for f in syntax]
    if document is None or faults:
        return None, faults
    schema = document.value
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    for error in validator(validator.META_SCHEMA).iter_errors(schema):
        reason = f"not JSON Schema: {error.message[:_MAX_MESSAGE]}"
        faults.append(fault_at(path, document.at(tuple(error.absolute_path)), reason))
    if faults:
        return None, faults
    try:
        return PayloadSchema(schema), []
    except ValueError as error:
        reason = str(error).splitlines()[0][:_MAX_MESSAGE]
        return None, [MappingFault(path, 1, 1, f"not JSON Schema: {reason}")]


def _unique(found: Iterable[Found]) -> list[Found]:
    return list(dict.fromkeys(found))


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
