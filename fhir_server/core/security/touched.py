"""Whose data a version is: read off its text, or off the form that it was made of.

Hot: it is asked for every version that a request reads or writes.
"""

from typing import Any

import msgspec

from fhir_server.core.form import Filled, Form
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version
from fhir_server.core.whom import patient_of

_SUBJECT = ("subject", "reference")
_KEPT = "touched"


class _Named(msgspec.Struct):
    """The elements that `whom.py` looks at, unread: skipping the others is most of the time."""

    resource_type: str = msgspec.field(name="resourceType")
    id: str = ""
    subject: msgspec.Raw = msgspec.Raw(b"")
    patient: msgspec.Raw = msgspec.Raw(b"")
    for_: msgspec.Raw = msgspec.field(name="for", default=msgspec.Raw(b""))
    beneficiary: msgspec.Raw = msgspec.Raw(b"")
    individual: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(_Named)
_parse = msgspec.json.Decoder().decode


def patient_of_version(version: Version) -> str:
    """`Patient/42`, or "" where a stored version is about no patient, or a deletion."""
    if version.body is None:
        return str(version.key) if version.key.resource_type == "Patient" else ""
    named = _decoder.decode(version.body)
    resource: Resource = {"resourceType": named.resource_type, "id": named.id}
    for name, raw in (
        ("subject", named.subject),
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
