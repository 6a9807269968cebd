"""ElementCheck: what a profile demands of one element of a holder, item by item."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from fhir_server.core.validation.profile import UNBOUNDED
from fhir_server.core.validation.profile_run import Check, Run, Where
from fhir_server.core.validation.profile_slicing import Item, Sliced


class Property(NamedTuple):
    """A JSON property of an element; `sibling` is its ``_name``, "" if it has none."""

    json_name: str
    type_name: str
    sibling: str


@dataclass(frozen=True, slots=True)
class ElementCheck:
    """What is demanded of one element, beyond what its type demands anyway.

    `forbidden` are the JSON names of types that the profile takes away, `kinds` those that
    are left. `is_missed`: that it is not there is told.
    """

    name: str
    profile: str
    spot: str
    is_list: bool
    properties: tuple[Property, ...]
    kinds: str
    forbidden: frozenset[str]
    least: int
    most: int
    is_missed: bool
    checks: Mapping[str, Check]
    sliced: Sliced | None

    def __call__(self, holder: Mapping[str, Any], where: Where, run: Run) -> None:
        spot = self.spot
        place = (where, f".{self.name}")
        if self.forbidden and not self.forbidden.isdisjoint(holder):
            run.add("structure", f"must be {self.kinds}", place, self.profile, f"{spot} type")
            return
        items = self._collect(holder, place)
        count = len(items)
        if count < self.least:
            text = f"at least {self.least} needed, {count} there"
            run.add("required", text, place, self.profile, f"{spot} min")
        elif count > self.most != UNBOUNDED:
            is_none = self.most == 0
            text = (
                "is not allowed here" if is_none else f"at most {self.most} allowed, {count} there"
            )
            run.add("structure", text, place, self.profile, f"{spot} max")
        if self.is_missed and not count:
            text = "an element that must be supported is not there"
            rule = f"{spot} mustSupport"
            run.add("informational", text, place, self.profile, rule, "information")
        for value, sibling, type_name, at in items:
            check = self.checks.get(type_name)
            if check is not None:
                check(value, sibling, at, run)
        if self.sliced is not None:
            self.sliced.check(items, place, run)

    def _collect(self, holder: Mapping[str, Any], place: Where) -> Sequence[Item]:
        found: list[Item] = []
        for key, type_name, sibling_key in self.properties:
            value = holder.get(key)
            sibling = holder.get(sibling_key) if sibling_key else None
            if value is None and sibling is None:
                continue
            if not self.is_list:
                found.append((value, sibling, type_name, place))
                continue
            values = value if isinstance(value, list) else []
            others = sibling if isinstance(sibling, list) else []
            for n in range(max(len(values), len(others))):
                one = values[n] if n < len(values) else None
                other = others[n] if n < len(others) else None
                found.append((one, other, type_name, (place, n)))
        return found


@dataclass(frozen=True, slots=True)
class Inside:
    """The elements of a value of `type_name`."""

    type_name: str
    elements: tuple[ElementCheck, ...]

    def __call__(self, value: Any, sibling: Any, where: Where, run: Run) -> None:
        if isinstance(value, dict):
            for check in self.elements:
                check(value, where, run)
