"""Versions of Observations into one transaction Bundle that is harmless to send again.

https://hl7.org/fhir/R4/http.html#transaction, https://hl7.org/fhir/R4/http.html#ccreate

Nothing in the Bundle depends on our ids or versions, and nothing on what was sent before:

- a first version is a conditional create by the reading's identifier: if it is there, the
  registry does nothing;
- a later one is a conditional update by it: sent twice, it says the same;
- a deletion, and a correction that made it another reading (another patient), leave the
  old one `entered-in-error` by a conditional update. It is not a DELETE: a result that was
  reported stays visible as an error, and a late repeat of its create finds it and does
  nothing, where after a DELETE it would bring it back;
- Patient and Device are conditional creates by identifier, and references to them are
  `urn:uuid`, so they follow whatever the registry has;
- a changed Patient is a conditional update by the identifier it was known by.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from adapters.national_registry.patient import (
    POLICY_SYSTEM,
    SNILS_SYSTEM,
    OutwardPatient,
    Token,
    changed,
    outward,
    tokens,
)
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM as READING_SYSTEM
from fhir_server.core.resource_json import Resource
from fhir_server.errors import DeliveryRejected

STANDING_SYSTEM = "https://pmp.example/fhir/CodeSystem/device-standing"
AUXILIARY = "auxiliary"

_LOCAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]+)?\Z")
_SERVERS_META = ("versionId", "lastUpdated", "source")

# What the registry needs to know by what it was measured.
_DEVICE_ELEMENTS = (
    "identifier",
    "manufacturer",
    "manufactureDate",
    "lotNumber",
    "serialNumber",
    "deviceName",
    "modelNumber",
    "type",
    "specialization",
    "version",
    "property",
)


class Rules(NamedTuple):
    """What the registry is sent. `patient_systems`: identifiers it knows, the best first."""

    is_auxiliary_sent: bool = False
    patient_systems: tuple[str, ...] = (SNILS_SYSTEM, POLICY_SYSTEM)


class Change(NamedTuple):
    """One version to be sent: what it says (None: deleted) and what the one before said."""

    key: ResourceKey
    version_id: int
    current: Resource | None
    previous: Resource | None


def reading_token(observation: Resource) -> Token | None:
    """The reading's own identifier; None for an Observation that no reading made."""
    return next((t for t in tokens(observation) if t.system == READING_SYSTEM), None)


def is_wanted(observation: Resource, rules: Rules) -> bool:
    """Whether the registry is to have this state of an Observation.

    What a device says of itself (its clock) is about no patient and stays here.
    """
    if _subject(observation).startswith("Device/"):
        return False
    return reading_token(observation) is not None and (
        rules.is_auxiliary_sent or not _is_auxiliary(observation)
    )


def group(observation: Resource) -> str:
    """The patient's day, as the patient lived it: by the date that is written."""
    period = observation.get("effectivePeriod") or {}
    written = (
        observation.get("effectiveDateTime")
        or observation.get("effectiveInstant")
        or period.get("start")
        or ""
    )
    return f"{_subject(observation)}/{written[:10]}"


def _subject(observation: Resource) -> str:
    return str((observation.get("subject") or {}).get("reference", ""))


def needed(changes: Iterable[Change]) -> frozenset[ResourceKey]:
    """The resources of this server that the changes refer to."""
    return frozenset(
        key
        for change in changes
        for resource in (change.current, change.previous)
        if resource is not None
        for reference in _references(resource)
        if (key := _local_key(reference)) is not None
    )


def patient_change(changes: Sequence[Change], rules: Rules) -> OutwardPatient | None:
    """What the changes of one Patient come to, from what was told before to what is now."""
    return changed(changes[0].previous, changes[-1].current, rules.patient_systems)


def translate_patient(changes: Sequence[Change], rules: Rules) -> Resource:
    """The transaction Bundle for changes of one Patient; without entries as in `translate`."""
    told = patient_change(changes, rules)
    entries = []
    if told is not None:
        request = {"method": "PUT", "url": f"Patient?{told.token.criterion()}"}
        urn = _urn("Patient", told.token)
        entries = [{"fullUrl": urn, "resource": told.resource, "request": request}]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def translate(
    changes: Sequence[Change], known: Mapping[ResourceKey, Resource], rules: Rules
) -> Resource:
    """The transaction Bundle; without entries when there is nothing to tell.

    Args:
        changes: versions of one resource in their order; the last one counts.
        known: the resources of `needed` that exist.
        rules: what the registry is sent.

    Raises:
        DeliveryRejected: a patient whom the registry could not recognize.
    """
    told: dict[Token, tuple[Resource, bool]] = {}
    sent_keys: dict[ResourceKey, Token] = {}
    for change in changes:
        before = _wanted(change.previous, rules)
        now = _wanted(change.current, rules)
        if before is not None and (now is None or now[0] != before[0]):
            told[before[0]] = ({**before[1], "status": "entered-in-error"}, False)
        if now is not None:
            token, observation = now
            told[token] = (observation, change.version_id == 1)
            sent_keys[change.key] = token
    bundle = _BundleInMaking(known, rules, sent_keys)
    for token, (observation, is_first) in told.items():
        bundle.add_observation(token, observation, is_first=is_first)
    return {"resourceType": "Bundle", "type": "transaction", "entry": bundle.entries()}


class _BundleInMaking:
    """Entries in the order Patient, Device, Observation, each once by its identifier."""

    def __init__(
        self,
        known: Mapping[ResourceKey, Resource],
        rules: Rules,
        sent: Mapping[ResourceKey, Token],
    ) -> None:
        self._known = known
        self._rules = rules
        self._sent = sent
        self._around: dict[str, Resource] = {}
        self._observations: list[Resource] = []

    def entries(self) -> list[Resource]:
        return [*self._around.values(), *self._observations]

    def add_observation(self, token: Token, observation: Resource, *, is_first: bool) -> None:
        body = _outward(observation, self)
        subject = body.get("subject", {}).get("reference", "")
        if not subject.startswith("urn:uuid:"):
            raise DeliveryRejected("the Observation's subject is no Patient that is here")
        criterion = token.criterion()
        request = (
            {"method": "POST", "url": "Observation", "ifNoneExist": criterion}
            if is_first
            else {"method": "PUT", "url": f"Observation?{criterion}"}
        )
        self._observations.append(
            {"fullUrl": _urn("Observation", token), "resource": body, "request": request}
        )

    def reference(self, reference: Mapping[str, Any]) -> dict[str, Any]:
        """What `reference` becomes: part of this Bundle, a business identifier, or a bare type.

        Our ids mean nothing at the registry. A reference that can be neither keeps its
        type, so that what held it stays valid.
        """
        kept = {name: value for name, value in reference.items() if name != "reference"}
        key = _local_key(reference)
        if key is None:
            return dict(reference)
        if key in self._sent:
            return {**kept, "reference": _urn("Observation", self._sent[key])}
        target = self._known.get(key)
        if target is not None and key.resource_type == "Patient":
            return {**kept, "reference": self._add_patient(key, target)}
        token = None if target is None else next(tokens(target), None)
        if target is None or token is None:
            return {**kept, "type": key.resource_type}
        if key.resource_type == "Device":
            return {**kept, "reference": self._add_device(token, target)}
        named = {name: part for name, part in token._asdict().items() if part}
        return {**kept, "type": key.resource_type, "identifier": named}

    def _add_patient(self, key: ResourceKey, patient: Resource) -> str:
        told = outward(patient, self._rules.patient_systems)
        if told is None:
            raise DeliveryRejected(f"{key} has no identifier that the registry could know")
        return self._add_around(told.token, told.resource)

    def _add_device(self, token: Token, device: Resource) -> str:
        resource: Resource = {"resourceType": "Device"}
        if tags := (device.get("meta") or {}).get("tag"):
            resource["meta"] = {"tag": tags}
        resource |= {name: device[name] for name in _DEVICE_ELEMENTS if name in device}
        return self._add_around(token, resource)

    def _add_around(self, token: Token, resource: Resource) -> str:
        resource_type = resource["resourceType"]
        urn = _urn(resource_type, token)
        self._around.setdefault(
            urn,
            {
                "fullUrl": urn,
                "resource": resource,
                "request": {
                    "method": "POST",
                    "url": resource_type,
                    "ifNoneExist": token.criterion(),
                },
            },
        )
        return urn


def _wanted(observation: Resource | None, rules: Rules) -> tuple[Token, Resource] | None:
    if observation is None or not is_wanted(observation, rules):
        return None
    token = reading_token(observation)
    return None if token is None else (token, observation)


def _outward(resource: Resource, bundle: _BundleInMaking) -> Resource:
    body: Resource = {
        name: _rewritten(value, bundle) for name, value in resource.items() if name != "id"
    }
    meta = {k: v for k, v in body.pop("meta", {}).items() if k not in _SERVERS_META}
    return {"resourceType": body.pop("resourceType"), **({"meta": meta} if meta else {}), **body}


def _rewritten(value: Any, bundle: _BundleInMaking) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            return bundle.reference(value)
        return {name: _rewritten(part, bundle) for name, part in value.items()}
    if isinstance(value, list):
        return [_rewritten(part, bundle) for part in value]
    return value


def _references(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def _local_key(reference: Mapping[str, Any]) -> ResourceKey | None:
    matched = _LOCAL.match(reference.get("reference", ""))
    return ResourceKey(matched[1], matched[2]) if matched else None


def _is_auxiliary(observation: Resource) -> bool:
    return any(
        tag.get("system") == STANDING_SYSTEM and tag.get("code") == AUXILIARY
        for tag in (observation.get("meta") or {}).get("tag") or ()
    )


def _urn(resource_type: str, token: Token) -> str:
    """The same identifier gives the same URN, so two of our resources can share an entry."""
    name = f"https://pmp.example/fhir/{resource_type}?{token.criterion()}"
    return f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, name)}"
