"""Moving a stored reading: the Observation as it is when it is another patient's, or nobody's.

Its identifier stays. It was made with the patient of then in it, so what is sent again is
looked for under that patient too (`DeviceRecord.former`).
"""

from datetime import tzinfo
from typing import Any

from fhir_server.core import date_range
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from fhir_server.core.mapping.project import FOCUS_SYSTEM
from fhir_server.core.monitoring.assignment import (
    PatientRecord,
    answered_plans,
    concept_codes,
    local_key,
)
from fhir_server.core.resource_json import Resource

WITHDRAWN = {
    "system": "https://pmp.example/fhir/CodeSystem/reading-standing",
    "code": "withdrawn",
}


def subject_of(observation: Resource) -> ResourceKey | None:
    """The patient of a reading of ours; None for what is no reading, or none of a patient."""
    identifiers = observation.get("identifier", ())
    if not any(identifier.get("system") == IDENTIFIER_SYSTEM for identifier in identifiers):
        return None
    return local_key(observation.get("subject"), "Patient")


def instant_of(observation: Resource, zone: tzinfo) -> int | None:
    """When it measured; where the device's clock was at fault, when it came."""
    period = observation.get("effectivePeriod") or {}
    moment = (
        observation.get("effectiveDateTime") or period.get("start") or observation.get("issued")
    )
    return date_range.parse(moment, zone).start if moment else None


def is_withdrawn(observation: Resource) -> bool:
    """Whether the server said that nobody had the device; a person's own word is another."""
    tags = (observation.get("meta") or {}).get("tag", ())
    return observation.get("status") == "entered-in-error" and any(
        (tag.get("system"), tag.get("code")) == (WITHDRAWN["system"], WITHDRAWN["code"])
        for tag in tags
    )


def moved(observation: Resource, patient: PatientRecord, instant: int) -> Resource:
    """The reading as `patient`'s."""
    old, new = local_key(observation.get("subject"), "Patient"), str(patient.key)
    changed: Resource = {**observation, "status": "corrected", "subject": {"reference": new}}
    changed["meta"] = _meta(observation, is_withdrawn=False)
    if not changed["meta"]:
        del changed["meta"]
    changed["performer"] = [
        {"reference": new} if local_key(performer, "Patient") == old else performer
        for performer in observation.get("performer", ())
    ]
    if not changed["performer"]:
        del changed["performer"]
    if "focus" in observation and old is not None:
        changed["focus"] = [_focus(focus, old, patient.key) for focus in observation["focus"]]
    codes = concept_codes(observation.get("code"))
    plans = [{"reference": str(k)} for k in answered_plans(patient.plans, codes, instant)]
    others = [r for r in observation.get("basedOn", ()) if local_key(r, "CarePlan") is None]
    changed.pop("basedOn", None)
    if plans or others:
        changed["basedOn"] = [*plans, *others]
    return changed


def withdrawn(observation: Resource) -> Resource:
    """The reading as nobody's: not deleted, so that it can come back."""
    meta = _meta(observation, is_withdrawn=True)
    return {**observation, "status": "entered-in-error", "meta": meta}


def _meta(observation: Resource, *, is_withdrawn: bool) -> dict[str, Any]:
    meta = dict(observation.get("meta") or {})
    tags = [t for t in meta.pop("tag", ()) if t.get("system") != WITHDRAWN["system"]]
    if is_withdrawn:
        tags.append(WITHDRAWN)
    return {**meta, "tag": tags} if tags else meta


def _focus(focus: Resource, old: ResourceKey, new: ResourceKey) -> Resource:
    identifier = focus.get("identifier") or {}
    value = identifier.get("value", "")
    if identifier.get("system") != FOCUS_SYSTEM or not value.startswith(f"{old.resource_id}/"):
        return focus
    name = value.removeprefix(f"{old.resource_id}/")
    return {**focus, "identifier": {**identifier, "value": f"{new.resource_id}/{name}"}}
