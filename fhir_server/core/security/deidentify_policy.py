"""DeidentificationPolicy: what one recipient gets of each type, as data; all else is left out.

A policy names what stays, never what goes: an element that R4 or a device maker adds
tomorrow is left out until somebody has thought about it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fhir_server.core.element_types import ElementTypes

_PLAIN = ("keep", "text", "year", "month", "hash")
_COUNTED = ("prefix", "round")
_MOST_SHIFT_DAYS = 3_650
_WHO = {
    "clients": "client ids",
    "adapters": "names of adapters",
    "subscriptions": "ids of Subscriptions, or URLs that their endpoints begin with",
}


class Action(NamedTuple):
    """What becomes of an element: `name` and, for a prefix or rounding, how much."""

    name: str
    amount: int = 0


Rules = Mapping[str, "Action | Rules"]
"""By element name: an action, or the rules of the elements within."""


@dataclass(frozen=True)
class DeidentificationPolicy:
    """`clients` are those who get only this from the FHIR API, `adapters` those of the settings
    that push only this, `subscriptions` the ids of Subscriptions, or beginnings of their
    endpoints, that tell only this.

    Dates of a patient are all moved by the same whole days, up to `shift_days` in either
    direction; 0 leaves them.
    """

    recipient: str
    types: Mapping[str, Rules]
    shift_days: int = 0
    clients: frozenset[str] = field(default_factory=frozenset)
    adapters: frozenset[str] = field(default_factory=frozenset)
    subscriptions: frozenset[str] = field(default_factory=frozenset)


def read_policy(
    recipient: str, values: Mapping[str, Any], known: ElementTypes
) -> DeidentificationPolicy:
    """A policy as it stands in the settings.

    `types` has for each resource type the elements that stay: a list of names, each of which
    is kept, or a table of names ("address.postalCode") and actions.

    Raises:
        ValueError: something in it means nothing; it names what.
    """
    unknown = set(values) - {"types", "shift_days", *_WHO}
    if unknown:
        raise ValueError(f"deidentification.{recipient}: {', '.join(sorted(unknown))} is not known")
    types = values.get("types")
    if not isinstance(types, Mapping) or not types:
        raise ValueError(f"deidentification.{recipient}.types: no type is named")
    shift_days = values.get("shift_days", 0)
    if not isinstance(shift_days, int) or not 0 <= shift_days <= _MOST_SHIFT_DAYS:
        raise ValueError(f"deidentification.{recipient}.shift_days: 0 to {_MOST_SHIFT_DAYS}")
    return DeidentificationPolicy(
        recipient,
        {
            name: _read_rules(f"deidentification.{recipient}.types.{name}", name, rules, known)
            for name, rules in types.items()
        },
        shift_days,
        **{who: _read_names(f"deidentification.{recipient}.{who}", values, who) for who in _WHO},
    )


def _read_names(where: str, values: Mapping[str, Any], who: str) -> frozenset[str]:
    names = values.get(who, ())
    if not isinstance(names, list | tuple) or not all(n and isinstance(n, str) for n in names):
        raise ValueError(f"{where}: a list of {_WHO[who]}")
    return frozenset(names)


def _read_rules(where: str, resource_type: str, values: Any, known: ElementTypes) -> Rules:
    if not known.elements(resource_type):
        raise ValueError(f"{where}: no resource type has this name")
    if isinstance(values, list | tuple):
        values = dict.fromkeys(values, "keep")
    if not isinstance(values, Mapping):
        raise ValueError(f"{where}: a list of elements, or a table of elements and actions")
    rules: dict[str, Any] = {}
    for path, text in values.items():
        _check_path(where, resource_type, str(path), known)
        *outer, last = str(path).split(".")
        inner = rules
        for name in outer:
            inner = inner.setdefault(name, {})
            if not isinstance(inner, dict):
                raise ValueError(f"{where}: {path} is within what is named already")
        if last in inner:
            raise ValueError(f"{where}: {path} is named twice, or holds what is named")
        inner[last] = _read_action(f"{where}.{path}", text)
    return rules


def _read_action(where: str, text: Any) -> Action:
    name, _, amount = str(text).partition(":")
    if name in _PLAIN and not amount:
        return Action(name)
    if name in _COUNTED and amount.isdecimal() and 0 < int(amount) <= 1_000_000:
        return Action(name, int(amount))
    raise ValueError(f"{where}: {', '.join(_PLAIN)}, prefix:n or round:n")


def _check_path(where: str, resource_type: str, path: str, known: ElementTypes) -> None:
    type_name = resource_type
    for name in path.split("."):
        element = known.get(type_name, name)
        if element is None or name in ("id", "meta", "contained", "extension", "modifierExtension"):
            raise ValueError(f"{where}: {path} is no element that can be given away")
        type_name = element.types[0]
