"""Where rules come from: the physician's Goals, and what a kind of plan brings along.

A Goal's target with a limit is a rule; the extension `alert-rule` on it says what else than
a single reading is looked at. The rules of a kind of plan are data (`profiles/monitoring`);
one that would speak up for what the physician allows is left out: his limits win.
https://hl7.org/fhir/R4/goal.html
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from fhir_server.core import date_range
from fhir_server.core.date_range import EARLIEST, LATEST, DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import Code, concept_codes
from fhir_server.core.monitoring.enrolment import PLAN_SYSTEM
from fhir_server.core.monitoring.measured import in_unit
from fhir_server.core.monitoring.rule import Rule, RuleKind, Severity
from fhir_server.core.resource_json import Resource

ALERT_RULE = "https://pmp.example/fhir/StructureDefinition/alert-rule"
LOINC = "http://loinc.org"

_IN_FORCE = frozenset({"accepted", "active"})
_MINUTE = 60_000_000
_SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "wk": 604_800}


class PlanRule(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """A rule that a kind of plan brings along; times in minutes, `codes` of LOINC."""

    plan: str
    code: str
    kind: RuleKind
    codes: tuple[str, ...]
    above: bool
    limit: Decimal
    unit: str
    severity: Severity = "moderate"
    inclusive: bool = False
    margin: Decimal = Decimal(0)
    cooldown: int = 60
    window: int = 0
    last: int = 1
    times: int = 1


class MonitoringRules(msgspec.Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    """`profiles/monitoring/rules.json`: margins by LOINC code, in the unit they are measured in."""

    margins: Mapping[str, tuple[Decimal, str]] = {}
    cooldown: int = 60
    plans: tuple[PlanRule, ...] = ()


class _Extension(NamedTuple):
    kind: RuleKind = RuleKind.LIMIT
    severity: Severity = "moderate"
    margin: tuple[Decimal, str] | None = None
    cooldown: int | None = None
    window: int = 0
    last: int = 1
    times: int = 1


def goal_rules(
    key: ResourceKey, goal: Resource, rules: MonitoringRules, zone: tzinfo
) -> Iterator[Rule]:
    """The rules of a Goal; none while it is not in force."""
    if goal.get("lifecycleStatus") not in _IN_FORCE:
        return
    start = goal.get("startDate")
    first = date_range.parse(start, zone).start if start else EARLIEST
    for index, target in enumerate(goal.get("target", ())):
        codes = frozenset(concept_codes(target.get("measure")))
        due = target.get("dueDate")
        period = DateRange(first, date_range.parse(due, zone).end if due else LATEST)
        own = _extension(target)
        for is_above, quantity, is_inclusive in _limits(target):
            unit = quantity.get("code", "")
            rule = Rule(
                rule_id=f"{key}#{index}.{'above' if is_above else 'below'}",
                code=_code(own.kind, is_above),
                kind=own.kind,
                codes=codes,
                is_above=is_above,
                limit=_decimal(quantity["value"]),
                unit=unit,
                source=key,
                period=period,
                severity=own.severity,
                is_inclusive=is_inclusive,
                margin=_margin(own, codes, unit, rules),
                cooldown=(rules.cooldown * _MINUTE if own.cooldown is None else own.cooldown),
                window=own.window,
                last=own.last,
                times=own.times,
            )
            yield rule


def plan_rules(
    key: ResourceKey,
    care_plan: Resource,
    rules: MonitoringRules,
    of_goals: Sequence[Rule],
    zone: tzinfo,
) -> Iterator[Rule]:
    """What a CarePlan's kind brings along beside the patient's own `of_goals`."""
    if care_plan.get("status") != "active":
        return
    kinds = {
        code
        for category in care_plan.get("category", ())
        for system, code in concept_codes(category)
        if system == PLAN_SYSTEM
    }
    bounds = care_plan.get("period") or {}
    period = DateRange(
        date_range.parse(bounds["start"], zone).start if bounds.get("start") else EARLIEST,
        date_range.parse(bounds["end"], zone).end if bounds.get("end") else LATEST,
    )
    for shipped in rules.plans:
        if shipped.plan not in kinds:
            continue
        rule = Rule(
            rule_id=f"{key}#{shipped.code}.{shipped.codes[0]}",
            code=shipped.code,
            kind=shipped.kind,
            codes=frozenset((LOINC, code) for code in shipped.codes),
            is_above=shipped.above,
            limit=shipped.limit,
            unit=shipped.unit,
            source=key,
            period=period,
            severity=shipped.severity,
            is_inclusive=shipped.inclusive,
            margin=shipped.margin,
            cooldown=shipped.cooldown * _MINUTE,
            window=shipped.window * _MINUTE,
            last=shipped.last,
            times=shipped.times,
        )
        if not any(_allows(own, rule) for own in of_goals):
            yield rule


def _allows(own: Rule, other: Rule) -> bool:
    """Whether `other` would speak up for values that the physician's `own` rule allows."""
    if own.is_above != other.is_above or own.codes.isdisjoint(other.codes):
        return False
    if (own.kind is RuleKind.CHANGE) != (other.kind is RuleKind.CHANGE):
        return False
    limit = in_unit(own.limit, own.unit, other.unit)
    if limit is None:
        return False
    if limit == other.limit:
        return True
    return limit > other.limit if own.is_above else limit < other.limit


def _limits(target: Mapping[str, Any]) -> Iterator[tuple[bool, Mapping[str, Any], bool]]:
    """`(is_above, quantity, is_inclusive)` of what is not to be exceeded or fallen below.

    The ends of a Range belong to what is allowed, and so does the limit behind "<=".
    """
    bounds = target.get("detailRange") or {}
    if "value" in (low := bounds.get("low") or {}):
        yield False, low, False
    if "value" in (high := bounds.get("high") or {}):
        yield True, high, False
    quantity = target.get("detailQuantity") or {}
    comparator = quantity.get("comparator")
    # Without a comparator it is a value to be reached, and no limit.
    if "value" in quantity and comparator:
        yield comparator in ("<", "<="), quantity, comparator in ("<", ">")


def _extension(target: Mapping[str, Any]) -> _Extension:
    found: dict[str, Any] = {}
    for extension in target.get("extension", ()):
        if extension.get("url") == ALERT_RULE:
            for part in extension.get("extension", ()):
                found[part.get("url")] = next((v for k, v in part.items() if k != "url"), None)
    if not found:
        return _Extension()
    margin = found.get("margin")
    return _Extension(
        kind=RuleKind(found.get("kind", RuleKind.LIMIT)),
        severity=found.get("severity", "moderate"),
        margin=(_decimal(margin["value"]), margin.get("code", "")) if margin else None,
        cooldown=_duration(found["cooldown"]) if "cooldown" in found else None,
        window=_duration(found["window"]) if "window" in found else 0,
        last=found.get("last", 1),
        times=found.get("times", 1),
    )


def _margin(own: _Extension, codes: Iterable[Code], unit: str, rules: MonitoringRules) -> Decimal:
    candidates = [own.margin] if own.margin else []
    candidates += [rules.margins[code] for system, code in codes if code in rules.margins]
    for value, of_unit in candidates:
        margin = value if of_unit == unit else None
        if margin is not None:
            return margin
    return Decimal(0)


def _code(kind: RuleKind, is_above: bool) -> str:
    side = "above" if is_above else "below"
    return {
        RuleKind.LIMIT: f"{side}-limit",
        RuleKind.MEAN: f"mean-{side}-limit",
        RuleKind.REPEATED: f"repeatedly-{side}-limit",
        RuleKind.CHANGE: "rising" if is_above else "falling",
    }[kind]


def _duration(quantity: Mapping[str, Any]) -> int:
    """Microseconds of a Duration; months and years have no fixed length and count as none."""
    seconds = _SECONDS.get(quantity.get("code", ""), 0)
    return int(_decimal(quantity.get("value", 0)) * seconds * 1_000_000)


def _decimal(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))
