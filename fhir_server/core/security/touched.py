"""Whose data a version is: read off its text, or off the form that it was made of.

Hot: it is asked for every version that a request reads or writes.
"""

from functools import lru_cache
from typing import Any

import msgspec

from fhir_server.core.form import Filled, Form
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.core.whom import patient_of

_SUBJECT = ("subject", "reference")
_KEPT = "touched"
_PATIENT = "Patient"
# Patients that are asked about again and again.
_REMEMBERED = 4_096


class _Subject(msgspec.Struct):
    """What says it of most: each element more would be looked for in all of a body."""

    resource_type: str = msgspec.field(name="resourceType")
    id: str = ""
    subject: msgspec.Raw = msgspec.Raw(b"")


class _Named(msgspec.Struct):
    """The elements that `whom.py` looks at, unread: skipping the others is most of the time."""

    resource_type: str = msgspec.field(name="resourceType")
    patient: msgspec.Raw = msgspec.Raw(b"")
    for_: msgspec.Raw = msgspec.field(name="for", default=msgspec.Raw(b""))
    beneficiary: msgspec.Raw = msgspec.Raw(b"")
    individual: msgspec.Raw = msgspec.Raw(b"")


_read_subject = msgspec.json.Decoder(_Subject).decode
_read_all = msgspec.json.Decoder(_Named).decode
_parse = msgspec.json.Decoder().decode


def patient_of_version(version: Version) -> str:
    """`Patient/42`, or "" where a stored version is about no patient, or a deletion."""
    if version.body is None:
        return str(version.key) if version.key.resource_type == _PATIENT else ""
    return patient_of_body(version.body)


def patient_of_body(body: bytes) -> str:
    """The same of a stored text."""
    found = _read_subject(body)
    if found.resource_type == _PATIENT:
        return patient_of({"resourceType": _PATIENT, "id": found.id})
    # The subject comes first where there are others too.
    return _patient_of_subject(bytes(found.subject)) or _patient_of_others(body)


@lru_cache(_REMEMBERED)
def _patient_of_subject(subject: bytes) -> str:
    return patient_of({"resourceType": "", "subject": _parse(subject)}) if subject else ""


def _patient_of_others(body: bytes) -> str:
    named = _read_all(body)
    resource: Resource = {"resourceType": named.resource_type}
    for name, raw in (
        ("patient", named.patient),
        ("for", named.for_),
        ("beneficiary", named.beneficiary),
        ("individual", named.individual),
    ):
        if raw:
            resource[name] = _parse(raw)
    return patient_of(resource)


def patient_of_put(resource: Resource | Filled) -> str:
    """The same of what is about to be stored."""
    if not isinstance(resource, Filled):
        return patient_of(resource)
    place = _place_of_subject(resource.form)
    if place is None:
        return patient_of(resource.resource())
    return patient_of(
        {
            "resourceType": resource.form.resource_type,
            "subject": {"reference": resource.values[place]},
        }
    )


def _place_of_subject(form: Form) -> int | None:
    """Which gap the subject is; None: the subject is no gap."""
    kept: Any = form.kept.get(_KEPT, form)
    if kept is form:
        found = (n for n, gap in enumerate(form.gaps) if _SUBJECT in gap)
        kept = form.kept[_KEPT] = next(found, None)
    place: int | None = kept
    return place
