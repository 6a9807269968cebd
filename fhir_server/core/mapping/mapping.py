"""A compiled mapping: a payload becomes readings, a reading becomes an Observation."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

import jsonschema_rs
from jsonschema_rs import ValidationErrorKind

from fhir_server.core.mapping.decode import Decoder, InvalidPayloadError
from fhir_server.core.mapping.enrolment import EnrolmentRule, InvalidEnrolmentError
from fhir_server.core.mapping.forms import Forms
from fhir_server.core.mapping.key import CLOCK_KIND
from fhir_server.core.mapping.placement import Placement
from fhir_server.core.mapping.prescription import Prescription
from fhir_server.core.mapping.reading import (
    Fault,
    Gateway,
    Outcome,
    QuarantineReason,
    Reading,
)
from fhir_server.core.mapping.rule import NOTHING, IgnoreRule, RecordRule
from fhir_server.core.resource_json import Resource

Concept = dict[str, Any]

# Enough to see what is wrong with a payload, however many faults it has.
_MAX_NAMED_FAULTS = 5


class PayloadSchema:
    """The vendor's JSON Schema: fast where it holds, exact about where it does not."""

    def __init__(self, schema: Any) -> None:
        """Compile `schema`.

        Raises:
            ValueError: it is no JSON Schema, or refers to one elsewhere.
        """
        self._validator = jsonschema_rs.validator_for(schema, retriever=_refuse)

    def is_valid(self, payload: Any) -> bool:
        return bool(self._validator.is_valid(payload))

    def faults(self, payload: Any) -> list[tuple[tuple[str | int, ...], str]]:
        """Path and broken keyword of each fault; no value of the payload.

        What is required and not there has the path it would have.
        """
        found = []
        for error in self._validator.iter_errors(payload):
            path = tuple(error.instance_path)
            keyword = str(error.schema_path[-1]) if error.schema_path else ""
            if isinstance(error.kind, ValidationErrorKind.Required):
                path = (*path, error.kind.property)
            found.append((path, keyword))
        return found


class Projection(Protocol):
    """What stage two is made of: one for each rule, its status, and the device's clock.

    `forms` is None where hardly two Observations are alike.
    """

    @property
    def forms(self) -> Forms | None: ...

    def project(self, reading: Reading, placement: Placement, issued: datetime) -> Resource:
        """The Observation; `issued` is aware."""
        ...

    def code(self, reading: Reading) -> Concept:
        """The code of the Observation, without making it."""
        ...


class Mapping:
    """What a checked mapping file does. Its methods raise for no payload whatever."""

    def __init__(
        self,
        name: str,
        title: str,
        schema: PayloadSchema | None,
        *,
        ignore: Sequence[IgnoreRule] = (),
        records: Sequence[RecordRule] = (),
        templates: Sequence[Projection] = (),
        decode: Decoder | None = None,
        enrolment: EnrolmentRule | None = None,
    ) -> None:
        self.name = name
        self.title = title
        self.is_enrolment = enrolment is not None
        self._schema = schema
        self._ignore = tuple(ignore)
        self._records = tuple(records)
        self._templates = tuple(templates)
        self._enrolment = enrolment
        self._decode = decode
        self._has_clock = any(rule.time.now is not None for rule in self._records)

    def read(self, payload: Any, gateway: Gateway) -> tuple[Outcome, ...]:
        """Stage one: everything in `payload`, in its order; never empty."""
        for rule in self._ignore:
            if rule.when(payload, payload):
                return (rule.outcome,)
        broken: dict[tuple[int, int], str] = {}
        if self._schema is not None and not _is_valid(self._schema, payload):
            found = self._broken_records(payload)
            if isinstance(found, Fault):
                return (found,)
            broken = found
        if self._decode is not None:
            try:
                payload = self._decode(payload)
            except InvalidPayloadError as error:
                return (Fault(QuarantineReason.INVALID_PAYLOAD, str(error)),)
        outcomes: list[Outcome] = []
        is_known = False
        for number, rule_for_records in enumerate(self._records):
            records = rule_for_records.records(payload)
            if records is None:
                continue
            is_known = True
            for index, record in enumerate(records):
                if broken and (number, index) in broken:
                    outcomes.append(Fault(QuarantineReason.INVALID_PAYLOAD, broken[number, index]))
                else:
                    outcomes += rule_for_records.read(record, payload, gateway)
        if not is_known:
            return (_UNKNOWN_KIND,)
        if self._has_clock:
            outcomes += _clocks(outcomes)
        return tuple(outcomes) or (NOTHING,)

    def project(self, reading: Reading, placement: Placement, issued: datetime) -> Resource:
        """Stage two: the Observation. Parts of it are shared; copy before changing one."""
        return self._templates[reading.rule].project(reading, placement, issued)

    def code(self, reading: Reading) -> Concept:
        """The code that the Observation of `reading` has, as a CodeableConcept to read."""
        return self._templates[reading.rule].code(reading)

    def forms(self, reading: Reading) -> Forms | None:
        """The forms that Observations like that of `reading` have; None if they have none."""
        return self._templates[reading.rule].forms

    def prescription(self, payload: Any) -> Prescription | Fault:
        """What an enrolment's payload prescribes, or what is wrong with it."""
        if self._enrolment is None:
            return Fault(QuarantineReason.UNKNOWN_KIND, "the mapping enrols nobody")
        if self._schema is not None and not _is_valid(self._schema, payload):
            return Fault(QuarantineReason.INVALID_PAYLOAD, _describe(self._faults(payload)))
        try:
            return self._enrolment.read(payload)
        except InvalidEnrolmentError as error:
            return Fault(QuarantineReason.INVALID_PAYLOAD, str(error))

    def _broken_records(self, payload: Any) -> dict[tuple[int, int], str] | Fault:
        """The records that break the schema; a Fault where more than records does.

        One bad record of a page must not hold back the good ones beside it.
        """
        faults = self._faults(payload)
        if self._decode is not None:
            # The schema is of what came, the records are of what it holds.
            return Fault(QuarantineReason.INVALID_PAYLOAD, _describe(faults))
        by_record: dict[tuple[int, int], list[tuple[tuple[str | int, ...], str]]] = {}
        for path, keyword in faults:
            owner = self._record_at(path)
            if owner is None:
                return Fault(QuarantineReason.INVALID_PAYLOAD, _describe(faults))
            by_record.setdefault(owner, []).append((path, keyword))
        if not by_record:
            return Fault(QuarantineReason.INVALID_PAYLOAD, _describe(faults))
        return {owner: _describe(found) for owner, found in by_record.items()}

    def _faults(self, payload: Any) -> list[tuple[tuple[str | int, ...], str]]:
        try:
            return self._schema.faults(payload) if self._schema else []
        except ValueError:
            return []

    def _record_at(self, path: tuple[str | int, ...]) -> tuple[int, int] | None:
        for number, rule in enumerate(self._records):
            each = rule.each_path
            if each and path[: len(each)] == each and len(path) > len(each):
                index = path[len(each)]
                if isinstance(index, int):
                    return number, index
        return None


_UNKNOWN_KIND = Fault(QuarantineReason.UNKNOWN_KIND, "no rule of the mapping is about this payload")


def _clocks(outcomes: Sequence[Outcome]) -> list[Reading]:
    """Each state of a device's clock that readings were corrected by, once."""
    found: dict[Any, Reading] = {}
    for outcome in outcomes:
        if isinstance(outcome, Reading):
            for source in outcome.derived_from:
                if source.kind == CLOCK_KIND:
                    found.setdefault((source.device, source.patient, source.stamp), source)
    return list(found.values())


def _is_valid(schema: PayloadSchema, payload: Any) -> bool:
    try:
        return schema.is_valid(payload)
    except ValueError:
        # A value that no JSON Schema can judge, such as one nested too deeply.
        return False


def _describe(faults: list[tuple[tuple[str | int, ...], str]]) -> str:
    if not faults:
        return "the payload breaks its schema"
    # One schema may ask for the same in several places.
    named = list(dict.fromkeys(_format_fault(path, keyword) for path, keyword in faults))
    more = len(named) - _MAX_NAMED_FAULTS
    text = "; ".join(named[:_MAX_NAMED_FAULTS])
    return f"{text}; and {more} more" if more > 0 else text


def _format_fault(path: tuple[str | int, ...], keyword: str) -> str:
    said = "is required" if keyword == "required" else f"breaks `{keyword}`"
    return f"{_format_path(path)} {said}"


def _format_path(path: tuple[str | int, ...]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "the payload"


def _refuse(uri: str) -> Any:
    raise ValueError(f"the schema refers to {uri}: keep it in one file")
