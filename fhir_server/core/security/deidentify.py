"""De-identification: a resource as a recipient's policy lets it go.

References become pseudonyms, dates of a patient move together, names, addresses, free text,
identifiers and extensions stay behind. What a modifier extension may turn around is not
given away at all.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from fhir_server.core import reference
from fhir_server.core.element_types import Element, ElementTypes
from fhir_server.core.identity import ResourceKey
from fhir_server.core.resource_json import Resource
from fhir_server.core.security.deidentify_policy import Action, DeidentificationPolicy, Rules
from fhir_server.core.whom import patient_of

LABEL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "PSEUDED",
    "display": "pseudonymized",
}
"""The security label of what was de-identified."""

_KEEP = Action("keep")
_DATES = frozenset({"date", "dateTime", "instant"})
# What cannot be told from an identity, or is free text.
_NEVER = frozenset(
    {
        "Address",
        "Annotation",
        "Attachment",
        "ContactDetail",
        "ContactPoint",
        "Extension",
        "HumanName",
        "Identifier",
        "Meta",
        "Narrative",
        "Resource",
        "Signature",
        "base64Binary",
        "markdown",
        "oid",
        "string",
        "url",
        "uuid",
        "xhtml",
    }
)
# Within these, strings and uris are a code's or a unit's.
_CODED = frozenset({"Coding", "Quantity", "SimpleQuantity", "Age", "Duration", "Count", "Distance"})
_WRITTEN = re.compile(r"([0-9]{4})(?:-([0-9]{2})(?:-([0-9]{2})(T.*)?)?)?\Z")


@dataclass(frozen=True, slots=True)
class Masks:
    """What a recipient knows things by: `pseudonym` of resources, days of a patient's dates.

    `digest` makes of an identifier what it cannot be read from, the same each time.
    """

    pseudonym: Callable[[ResourceKey], str]
    days: Callable[[ResourceKey], int]
    digest: Callable[[str], str]


def deidentify(
    resource: Resource, policy: DeidentificationPolicy, masks: Masks, types: ElementTypes
) -> Resource | None:
    """What the recipient gets of a stored `resource`; None: nothing."""
    resource_type: str = resource["resourceType"]
    rules = policy.types.get(resource_type)
    if rules is None or "modifierExtension" in resource or "implicitRules" in resource:
        return None
    key = ResourceKey(resource_type, resource["id"])
    days = days_of(resource, policy, masks)
    kept = _Mask(masks, types, days).within(resource, resource_type, rules)
    if kept is None:
        return None
    given = {name: value for name, value in kept.items() if name != "resourceType"}
    meta = {"security": [dict(LABEL)]}
    return {"resourceType": resource_type, "id": masks.pseudonym(key), "meta": meta, **given}


def days_of(resource: Resource, policy: DeidentificationPolicy, masks: Masks) -> int:
    """By how many days the dates of a stored `resource` move: those of its patient."""
    if not policy.shift_days:
        return 0
    whose = reference.parse(patient_of(resource))
    if whose is None:
        return masks.days(ResourceKey(resource["resourceType"], resource["id"]))
    return masks.days(ResourceKey(whose.resource_type, whose.resource_id))


class _ModifiedError(Exception):
    """Something within has a modifier extension."""


class _Mask:
    """One resource's: all of its dates move by the same `days`."""

    def __init__(self, masks: Masks, types: ElementTypes, days: int) -> None:
        self._masks = masks
        self._types = types
        self._days = days

    def within(self, value: Resource, type_name: str, rules: Rules) -> Resource | None:
        """The elements of `value` that `rules` name; None where it must not go at all."""
        try:
            return self._named(value, type_name, rules)
        except _ModifiedError:
            return None

    def _named(self, value: Resource, type_name: str, rules: Rules | None) -> Resource:
        """Of `value`, which is of a type; without rules everything that may be kept."""
        if "modifierExtension" in value:
            raise _ModifiedError
        kept: Resource = {}
        for element in self._types.elements(type_name).values():
            rule = _KEEP if rules is None else rules.get(element.name)
            if rule is None or element.name in ("id", "extension", "modifierExtension", "meta"):
                continue
            for name, code in element.json_names():
                if name in value:
                    made = self._each(value[name], element, code, rule, type_name)
                    if made not in (None, [], {}):
                        kept[name] = made
        return kept

    def _each(
        self, value: Any, element: Element, code: str, rule: Action | Rules, within: str
    ) -> Any:
        if isinstance(value, list):
            made = (self._one(item, element, code, rule, within) for item in value)
            return [item for item in made if item not in (None, [], {})]
        return self._one(value, element, code, rule, within)

    def _one(
        self, value: Any, element: Element, code: str, rule: Action | Rules, within: str
    ) -> Any:
        if not isinstance(rule, Action):
            return self._named(value, code, rule) if isinstance(value, dict) else None
        if rule.name == "hash":
            return self._hashed(value, code)
        if rule.name == "text":
            return value if isinstance(value, str) else None
        if rule.name == "prefix":
            return value[: rule.amount] if isinstance(value, str) else None
        if code in _DATES:
            return self._dated(value, rule)
        if rule.name in ("year", "month"):
            return None
        if rule.name == "round":
            return _rounded(value, rule.amount)
        return self._kept(value, element, code, within)

    def _kept(self, value: Any, element: Element, code: str, within: str) -> Any:
        if code == "Reference":
            return self._referred(value)
        if code in ("uri", "string"):
            return value if within in _CODED else None
        if code in _NEVER:
            return None
        if not isinstance(value, dict):
            return value
        # An element that repeats another's content has that one's type.
        return self._named(value, code if self._types.elements(code) else element.types[0], None)

    def _referred(self, value: Any) -> Resource | None:
        text = value.get("reference") if isinstance(value, dict) else None
        found = reference.parse(text) if isinstance(text, str) else None
        if found is None or not found.is_local:
            return None
        key = ResourceKey(found.resource_type, found.resource_id)
        return {"reference": f"{key.resource_type}/{self._masks.pseudonym(key)}"}

    def _hashed(self, value: Any, code: str) -> Any:
        if code == "Identifier" and isinstance(value, dict) and value.get("value"):
            system = str(value.get("system", ""))
            digest = self._masks.digest(f"{system}|{value['value']}")
            return {"system": system, "value": digest} if system else {"value": digest}
        return self._masks.digest(value) if isinstance(value, str) else None

    def _dated(self, value: Any, rule: Action) -> str | None:
        moved = shifted(value, self._days) if isinstance(value, str) else None
        if moved is None or rule.name == "keep":
            return moved
        return moved[:4] if rule.name == "year" else moved[:7]


def shifted(text: str, days: int) -> str | None:
    """A date, dateTime or instant moved by whole days, as precise and at the same time of day.

    None for what is none, or leaves the years 1 to 9999.
    """
    found = _WRITTEN.match(text)
    if found is None:
        return None
    if days == 0:
        return text
    year, month, day, clock = found.groups()
    try:
        moved = date(int(year), int(month or 7), int(day or 1)) + timedelta(days)
    except (ValueError, OverflowError):
        return None
    return moved.isoformat()[: 10 if day else 7 if month else 4] + (clock or "")


def _rounded(value: Any, to: int) -> Any:
    """A number, or the value of a quantity, to a multiple of `to`."""
    if isinstance(value, dict):
        if not isinstance(value.get("value"), int | Decimal):
            return None
        kept = {name: value[name] for name in ("unit", "system", "code") if name in value}
        return {"value": _rounded(value["value"], to), **kept}
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return int((Decimal(value) / to).to_integral_value(ROUND_HALF_EVEN)) * to
