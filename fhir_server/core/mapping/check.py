"""Everything that is wrong with a mapping, its examples included."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping import document as documents
from fhir_server.core.mapping.catalog import build
from fhir_server.core.mapping.check_document import check_document
from fhir_server.core.mapping.document import Document, Path
from fhir_server.core.mapping.files import ExampleFiles, MappingFiles
from fhir_server.core.mapping.language import Language, MappingFault, fault_at
from fhir_server.core.mapping.mapping import Mapping
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.reading import Fault, Gateway, IdentifierToken, Ignored, Reading
from fhir_server.errors import MalformedResource

__all__ = ["MappingFault", "check", "outcomes_json"]

# Of the examples: as if received long after every stamp, for a patient and device "example".
_RECEIVED = datetime(2100, 1, 1, tzinfo=UTC)
_PATIENT = ResourceKey("Patient", "example")
_DEVICE = ResourceKey("Device", "example")
_DEVICE_IDENTIFIER = IdentifierToken("https://pmp.example/fhir/NamingSystem/device", "example")


def check(files: MappingFiles, language: Language) -> tuple[MappingFault, ...]:
    """Every fault of the mapping file, the payload's schema and the examples."""
    checked = check_document(files, language)
    if isinstance(checked, tuple):
        return checked
    mapping = build(files.name, checked, language)
    return tuple(_check_examples(mapping, files))


def outcomes_json(mapping: Mapping, payload: Any, issued: datetime | None = None) -> Any:
    """What `payload` becomes, as an example's expected file has it.

    Without `issued` the Observations have none, so that they are the same every time.
    """
    if mapping.is_enrolment:
        prescription = mapping.prescription(payload)
        if isinstance(prescription, Fault):
            return {"fault": prescription.reason.value, "detail": prescription.detail}
        return _plain(prescription)
    gateway = Gateway(_RECEIVED)
    return [_outcome_json(mapping, o, issued) for o in mapping.read(payload, gateway)]


def _outcome_json(mapping: Mapping, outcome: Any, issued: datetime | None) -> Any:
    match outcome:
        case Ignored(reason):
            return {"ignored": reason}
        case Fault(reason, detail):
            return {"fault": reason.value, "detail": detail}
        case Reading():
            device = outcome.device
            if device is None or device.system is None:
                device = IdentifierToken(
                    _DEVICE_IDENTIFIER.system, device.value if device else "example"
                )
            placement = Placement(_PATIENT, _DEVICE, device)
            resource = mapping.project(outcome, placement, issued or _RECEIVED)
            return {"resource": {k: v for k, v in resource.items() if issued or k != "issued"}}
        case _:
            raise TypeError(f"an outcome of a kind that nobody knows: {type(outcome).__name__}")


def _check_examples(mapping: Mapping, files: MappingFiles) -> Iterator[MappingFault]:
    if not files.examples:
        reason = "there is no example: add examples/<case>.payload.json and .expected.json"
        yield MappingFault(files.path, 1, 1, reason)
    for example in files.examples:
        yield from _check_example(mapping, files, example)


def _check_example(
    mapping: Mapping, files: MappingFiles, example: ExampleFiles
) -> Iterator[MappingFault]:
    folder = PurePath(files.path).parent / "examples"
    payload_path = str(folder / f"{example.case}.payload.json")
    expected_path = str(folder / f"{example.case}.expected.json")
    try:
        payload = resource_json.parse(example.payload_text.encode())
    except MalformedResource as error:
        yield MappingFault(payload_path, 1, 1, str(error))
        return
    became = outcomes_json(mapping, payload)
    if example.expected_text is None:
        yield MappingFault(expected_path, 1, 1, "missing: what the payload must become")
        return
    try:
        expected = resource_json.parse(example.expected_text.encode())
    except MalformedResource as error:
        yield MappingFault(expected_path, 1, 1, str(error))
        return
    if resource_json.format_sorted(expected) == resource_json.format_sorted(became):
        return
    positions, _ = documents.parse(example.expected_text)
    path, reason = _difference(expected, _reparsed(became), ())
    where = positions or Document(None, {})
    yield fault_at(expected_path, where.at(path), f"{_format(path)}: {reason}")


def _difference(expected: Any, became: Any, path: Path) -> tuple[Path, str]:
    """The first place where the two differ."""
    if isinstance(expected, dict) and isinstance(became, dict):
        for name in expected:
            if name not in became:
                return (*path, name), "expected, but not there"
        for name, value in became.items():
            if name not in expected:
                return path, f"`{name}` is there, but not expected: {_short(value)}"
            if not _is_same(expected[name], value):
                return _difference(expected[name], value, (*path, name))
    if isinstance(expected, list) and isinstance(became, list):
        for index, (left, right) in enumerate(zip(expected, became, strict=False)):
            if not _is_same(left, right):
                return _difference(left, right, (*path, index))
        return path, f"{len(expected)} expected, there are {len(became)}"
    return path, f"expected {_short(expected)}, became {_short(became)}"


def _is_same(left: Any, right: Any) -> bool:
    return resource_json.format_sorted(left) == resource_json.format_sorted(right)


def _reparsed(value: Any) -> Any:
    return resource_json.parse(resource_json.format(value))


def _short(value: Any) -> str:
    text = resource_json.format(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."


def _format(path: Path) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the whole"


def _plain(value: Any) -> Any:
    """Named tuples as objects, without what is empty."""
    if hasattr(value, "_asdict"):
        return {k: _plain(v) for k, v in value._asdict().items() if v not in ("", (), None)}
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return value


def format_expected(value: Any) -> str:
    """`value` as an expected file, one element a line; decimals keep their digits."""
    numbers: list[str] = []

    def keep(text: str) -> str:
        numbers.append(text)
        return f"\x00{len(numbers) - 1}\x00"

    plain = json.loads(resource_json.format(value), parse_float=keep)
    text = json.dumps(plain, indent=2, ensure_ascii=False)
    for index, number in enumerate(numbers):
        text = text.replace(f'"\\u0000{index}\\u0000"', number, 1)
    return text + "\n"
