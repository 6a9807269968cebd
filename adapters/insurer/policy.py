"""What an insurer may have: Coverage and Consent, read as they are when it is sent.

https://hl7.org/fhir/R4/consent.html. Where a Consent leaves room, less is sent:

- without an active Coverage by the insurer, and without a Consent that permits, nothing;
- a permission that names no kind of data permits aggregates; one that names classes, codes
  or single resources permits those resources as well;
- a permission must name the insurer, a denial of everybody denies the insurer;
- a denial that applies to the insurer wins over every permission, of whatever Consent;
- within one Consent the inner provision wins over the outer one;
- what is not understood (a modifier extension) makes a permission void and a denial whole.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, tzinfo
from enum import IntEnum
from typing import Any, NamedTuple

from fhir_server.core import date_range
from fhir_server.core.date_range import DateRange
from fhir_server.core.resource_json import Resource

NO_COVERAGE = "no active coverage by this insurer"
NO_CONSENT = "no active consent permits it"
DENIED = "a consent denies it"

_OPT_IN, _OPT_OUT = "OPTIN", "OPTOUT"


class Level(IntEnum):
    """How much may go."""

    NOTHING = 0
    AGGREGATES = 1
    RESOURCE = 2


class Party(NamedTuple):
    """The insurer: as references name it, by its Organization here or by an identifier."""

    references: frozenset[str]
    identifiers: frozenset[tuple[str, str]]

    def is_named(self, reference: Mapping[str, Any]) -> bool:
        identifier = reference.get("identifier") or {}
        return (
            reference.get("reference") in self.references
            or (identifier.get("system", ""), identifier.get("value")) in self.identifiers
        )


class Asked(NamedTuple):
    """Who wants it, what for (codes of v3-ActReason), and at what moment."""

    party: Party
    purposes: frozenset[str]
    now: datetime
    zone: tzinfo


def is_payor(coverage: Resource, party: Party) -> bool:
    """Whether a Coverage, active or not, is by the insurer."""
    is_error = coverage.get("status") == "entered-in-error"
    return not is_error and any(map(party.is_named, coverage.get("payor") or ()))


def is_covered(coverages: Iterable[Resource], asked: Asked) -> bool:
    """Whether one of them is by the insurer and in force."""
    return any(
        coverage.get("status") == "active"
        and is_payor(coverage, asked.party)
        and _is_within(coverage.get("period"), asked)
        for coverage in coverages
    )


def permitted(resource: Resource, consents: Iterable[Resource], asked: Asked) -> Level:
    """How much of `resource` the patient's Consents let the insurer have."""
    level = Level.NOTHING
    for consent in consents:
        if consent.get("status") != "active":
            continue
        said = _said(consent, resource, asked)
        if said is Level.NOTHING:
            return Level.NOTHING
        level = max(level, said or Level.NOTHING)
    return level


def refusal(resource: Resource, consents: Collection[Resource], asked: Asked) -> str:
    """Why `permitted` is nothing, in words that say nothing of the patient."""
    denials = (_said(c, resource, asked) for c in consents if c.get("status") == "active")
    return DENIED if Level.NOTHING in denials else NO_CONSENT


def _said(consent: Resource, resource: Resource, asked: Asked) -> Level | None:
    """What one Consent says of the resource; None is not a word."""
    said = _of_rule(consent)
    provision = consent.get("provision")
    if isinstance(provision, dict):
        said = _of_provision(provision, resource, asked, said, _Within())
    if "modifierExtension" in consent and said is not Level.NOTHING:
        return None
    return said


def _of_rule(consent: Resource) -> Level | None:
    """An opt-out is for everybody. An opt-in is not: it names no insurer."""
    codings = (consent.get("policyRule") or {}).get("coding") or ()
    codes = {coding.get("code") for coding in codings}
    return Level.NOTHING if _OPT_OUT in codes and _OPT_IN not in codes else None


class _Within(NamedTuple):
    """What the provisions around one have named: the insurer, and kinds of data."""

    is_for_us: bool = False
    is_kind_named: bool = False


def _of_provision(
    provision: Mapping[str, Any],
    resource: Resource,
    asked: Asked,
    outer: Level | None,
    within: _Within,
) -> Level | None:
    kind = provision.get("type")
    is_strange = "modifierExtension" in provision
    if is_strange and kind != "deny":
        return outer
    if not is_strange and not _applies(provision, resource, asked):
        return outer
    within = _Within(
        within.is_for_us or bool(provision.get("actor")),
        within.is_kind_named or any(name in provision for name in ("class", "code", "data")),
    )
    if kind == "deny":
        said: Level | None = Level.NOTHING
    elif kind == "permit" and within.is_for_us:
        said = Level.RESOURCE if within.is_kind_named else Level.AGGREGATES
    else:
        said = outer
    inner = [
        _of_provision(part, resource, asked, None, within)
        for part in provision.get("provision") or ()
    ]
    spoken = [level for level in inner if level is not None]
    if Level.NOTHING in spoken:
        return Level.NOTHING
    return max(spoken, default=said)


def _applies(provision: Mapping[str, Any], resource: Resource, asked: Asked) -> bool:
    actors = provision.get("actor") or ()
    purposes = {coding.get("code") for coding in provision.get("purpose") or ()}
    return (
        (not actors or any(asked.party.is_named(a.get("reference") or {}) for a in actors))
        and (not purposes or not purposes.isdisjoint(asked.purposes))
        and _is_within(provision.get("period"), asked)
        and _is_data(provision, resource, asked)
    )


def _is_data(provision: Mapping[str, Any], resource: Resource, asked: Asked) -> bool:
    classes = {coding.get("code") for coding in provision.get("class") or ()}
    if classes and resource["resourceType"] not in classes:
        return False
    codes = provision.get("code") or ()
    if codes and not any(_shares_coding(code, own) for code in codes for own in _codes(resource)):
        return False
    data = provision.get("data") or ()
    own_name = f"{resource['resourceType']}/{resource.get('id', '')}"
    if data and not any((d.get("reference") or {}).get("reference") == own_name for d in data):
        return False
    labels = provision.get("securityLabel") or ()
    security = {"coding": (resource.get("meta") or {}).get("security") or ()}
    if labels and not _shares_coding({"coding": labels}, security):
        return False
    period = provision.get("dataPeriod")
    return not period or _was_within(resource, period, asked)


def _codes(resource: Resource) -> list[Mapping[str, Any]]:
    """What a resource is of: a component is part of what would be sent."""
    held = [resource, *(resource.get("component") or ())]
    return [each["code"] for each in held if isinstance(each.get("code"), dict)]


def _shares_coding(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def pairs(concept: Mapping[str, Any]) -> set[tuple[str, str]]:
        codings = concept.get("coding") or ()
        return {(each.get("system", ""), each["code"]) for each in codings if "code" in each}

    return not pairs(one).isdisjoint(pairs(other))


def _is_within(period: Mapping[str, Any] | None, asked: Asked) -> bool:
    if not period:
        return True
    try:
        found = date_range.of_period(period, asked.zone)
    except ValueError:
        return False
    now = date_range.from_datetime(asked.now)
    return found is None or found.contains(DateRange(now, now + 1))


def _was_within(resource: Resource, period: Mapping[str, Any], asked: Asked) -> bool:
    try:
        found = date_range.of_period(period, asked.zone)
        when = measured(resource, asked.zone)
    except ValueError:
        return False
    return when is not None and (found is None or found.contains(when))


def measured(resource: Resource, zone: tzinfo) -> DateRange | None:
    """When an Observation was made; None if it does not say.

    Raises:
        ValueError: it says something that is no date.
    """
    for name in ("effectiveDateTime", "effectiveInstant"):
        if isinstance(resource.get(name), str):
            return date_range.parse(resource[name], zone)
    period = resource.get("effectivePeriod")
    return date_range.of_period(period, zone) if isinstance(period, dict) else None
