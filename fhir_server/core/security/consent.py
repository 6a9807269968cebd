"""Consents: what a patient allows and forbids, and whose request it is about.

The newest consent that says something about a request decides it, and within a consent the
innermost provision; what none decides, the installation's default for the purpose does.
What a provision says that is not understood here can make a denial wider and never a permit.
https://hl7.org/fhir/R4/consent.html
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any, NamedTuple, TypeVar

from fhir_server.core import date_range, reference
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version

T = TypeVar("T")

_RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
_ALWAYS = DateRange(EARLIEST, LATEST)
_KNOWN = frozenset(
    ("id", "type", "period", "actor", "action", "purpose", "class", "data", "provision")
)
_DISCLOSING = frozenset(("access", "use", "disclose"))


class Provision(NamedTuple):
    """One rule, and the exceptions from it. None of a set is "any".

    `is_permit` None decides nothing, but its exceptions do. `data` are single resources.
    `is_exact`: nothing narrows it in a way that is not understood here.
    """

    is_permit: bool | None
    span: DateRange
    actors: frozenset[str] | None
    purposes: frozenset[str] | None
    resource_types: frozenset[str] | None
    data: frozenset[ResourceKey] | None
    is_exact: bool
    exceptions: tuple["Provision", ...] = ()


_NOTHING = Provision(False, _ALWAYS, None, None, None, None, is_exact=True)


class Terms(NamedTuple):
    """An active Consent of one patient; `order` is greater the newer it is."""

    key: ResourceKey
    patient: str
    order: tuple[int, int]
    provision: Provision


class Asker(NamedTuple):
    """For whom the data are asked: references that are theirs, and for which purposes."""

    names: frozenset[str]
    purposes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ruling:
    """What one patient's consents come to for one asker: by type, and of single resources.

    A type that is not named goes by `otherwise`.
    """

    otherwise: bool
    by_type: Mapping[str, bool] = field(default_factory=dict)
    by_key: Mapping[ResourceKey, bool] = field(default_factory=dict)

    def permits(self, resource_type: str) -> bool:
        return self.by_type.get(resource_type, self.otherwise)


def read(version: Version, zone: tzinfo) -> Terms | None:
    """What an active Consent of a patient says; None if it is none."""
    if version.is_deletion:
        return None
    resource = version.resource()
    if resource.get("status") != "active":
        return None
    patient = _local(resource.get("patient"))
    found = resource.get("provision")
    if patient is None or patient.resource_type != "Patient" or found is None:
        return None
    try:
        provision = _provision(found, zone)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        # Stored where validation only warns. It may be a denial, so it is one.
        provision = _NOTHING
    return Terms(
        version.key,
        patient.resource_id,
        (_written(resource, zone), version.sequence),
        provision,
    )


def rule(terms: Iterable[Terms], asker: Asker, now: datetime, default: bool) -> Ruling:
    """What one patient's consents come to at `now`."""
    moment = date_range.from_datetime(now)
    otherwise: bool | None = None
    by_type: dict[str, bool] = {}
    by_key: dict[ResourceKey, bool] = {}
    for each in sorted(terms, key=lambda terms: terms.order, reverse=True):
        said = _Said()
        said.take(each.provision, asker, moment, _Reach())
        for key, is_permit in said.by_key.items():
            if otherwise is None and key.resource_type not in by_type:
                by_key.setdefault(key, is_permit)
        for resource_type, is_permit in said.by_type.items():
            if otherwise is None:
                by_type.setdefault(resource_type, is_permit)
        if otherwise is None:
            otherwise = said.otherwise
    return Ruling(default if otherwise is None else otherwise, by_type, by_key)


def span(period: Any, zone: tzinfo) -> DateRange | None:
    """The time of a Period, all time without one; None if it cannot be understood."""
    if period is None:
        return _ALWAYS
    if not isinstance(period, dict):
        return None
    try:
        start = date_range.parse(period["start"], zone).start if "start" in period else EARLIEST
        end = date_range.parse(period["end"], zone).end if "end" in period else LATEST
    except (ValueError, TypeError):
        return None
    return DateRange(start, end) if start < end else None


def boundaries(provision: Provision) -> Iterator[int]:
    """The moments at which it begins and ceases to hold."""
    yield from provision.span
    for each in provision.exceptions:
        yield from boundaries(each)


class _Reach(NamedTuple):
    """What a provision is about, those around it regarded; None is everything."""

    resource_types: frozenset[str] | None = None
    data: frozenset[ResourceKey] | None = None
    may_permit: bool = True

    def narrowed(self, provision: Provision) -> "_Reach":
        types = _both(self.resource_types, provision.resource_types)
        data = _both(self.data, provision.data)
        if data is not None and types is not None:
            data = frozenset(key for key in data if key.resource_type in types)
        # What narrows a permit in an unknown way narrows the permits within it too.
        is_unsure = provision.is_permit is True and not provision.is_exact
        return _Reach(types, data, self.may_permit and not is_unsure)


class _Said:
    """What one consent says of an asker."""

    def __init__(self) -> None:
        self.otherwise: bool | None = None
        self.by_type: dict[str, bool] = {}
        self.by_key: dict[ResourceKey, bool] = {}

    def take(self, provision: Provision, asker: Asker, moment: int, around: _Reach) -> None:
        if not _applies(provision, asker, moment):
            return
        reach = around.narrowed(provision)
        is_permit = provision.is_permit
        if is_permit is False or (is_permit is True and reach.may_permit):
            self._say(reach, is_permit)
        for each in provision.exceptions:
            self.take(each, asker, moment, reach)

    def _say(self, reach: _Reach, is_permit: bool) -> None:
        types = reach.resource_types
        if reach.data is not None:
            self.by_key.update(dict.fromkeys(reach.data, is_permit))
            return
        said = [key for key in self.by_key if types is None or key.resource_type in types]
        for key in said:
            del self.by_key[key]
        if types is None:
            self.otherwise = is_permit
            self.by_type.clear()
        else:
            self.by_type.update(dict.fromkeys(types, is_permit))


def _both(one: frozenset[T] | None, other: frozenset[T] | None) -> frozenset[T] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _applies(provision: Provision, asker: Asker, moment: int) -> bool:
    if not provision.span.start <= moment < provision.span.end:
        return False
    if provision.actors is not None and provision.actors.isdisjoint(asker.names):
        return False
    if provision.purposes is None:
        return True
    covered = provision.purposes.intersection(asker.purposes)
    # A permit is for what it names; who asks for more than that has none.
    return covered == set(asker.purposes) if provision.is_permit else bool(covered)


def _provision(found: Mapping[str, Any], zone: tzinfo) -> Provision:
    is_permit = {"permit": True, "deny": False}.get(found.get("type", ""))
    when = span(found.get("period"), zone)
    actors, purposes = _actors(found), _codes(found.get("purpose"))
    types, are_types_sure = _types(found)
    data, is_data_sure = _data(found)
    actions = {
        code
        for concept in found.get("action") or ()
        for code in _codes(concept.get("coding")) or ()
    }
    is_exact = (
        _KNOWN.issuperset(found)
        and all(found.values())
        and when is not None
        and are_types_sure
        and is_data_sure
        and (not found.get("action") or not actions.isdisjoint(_DISCLOSING))
    )
    exceptions = tuple(_provision(each, zone) for each in found.get("provision") or ())
    return Provision(
        is_permit, when or _ALWAYS, actors, purposes, types, data, is_exact, exceptions
    )


def _actors(found: Mapping[str, Any]) -> frozenset[str] | None:
    actors = found.get("actor")
    if not actors:
        return None
    named = [_local(each.get("reference")) for each in actors]
    if None in named and found.get("type") == "deny":
        return None
    return frozenset(str(key) for key in named if key is not None)


def _types(found: Mapping[str, Any]) -> tuple[frozenset[str] | None, bool]:
    """The resource types of `class`; a class that is none narrows in an unknown way."""
    classes: Sequence[Any] = found.get("class") or ()
    if not classes:
        return None, True
    known = frozenset(
        each["code"]
        for each in classes
        if each.get("system") == _RESOURCE_TYPES and isinstance(each.get("code"), str)
    )
    if len(known) < len(classes) and found.get("type") == "deny":
        return None, False
    return known, True


def _data(found: Mapping[str, Any]) -> tuple[frozenset[ResourceKey] | None, bool]:
    """The single resources of `data`; those that only relate to one are not followed."""
    data: Sequence[Any] = found.get("data") or ()
    if not data:
        return None, True
    keys = [
        key
        for each in data
        if each.get("meaning") == "instance" and (key := _local(each.get("reference"))) is not None
    ]
    if len(keys) < len(data) and found.get("type") == "deny":
        return None, False
    return frozenset(keys), True


def _codes(codings: Any) -> frozenset[str] | None:
    if not codings:
        return None
    return frozenset(each["code"] for each in codings if isinstance(each.get("code"), str))


def _local(value: Any) -> ResourceKey | None:
    text = value.get("reference") if isinstance(value, dict) else None
    found = reference.parse(text) if isinstance(text, str) else None
    if found is None or not found.is_local:
        return None
    return ResourceKey(found.resource_type, found.resource_id)


def _written(resource: Resource, zone: tzinfo) -> int:
    """When it was given, as it says; what does not say so is older than all that do."""
    try:
        return date_range.parse(resource["dateTime"], zone).start
    except (KeyError, TypeError, ValueError):
        return EARLIEST
