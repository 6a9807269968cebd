"""Accepting: a profile's checks written out as one function that only says yes.

Nearly every resource that claims a profile conforms to it. So the checks are written as plain
Python without a call for each element: true means that they would find nothing at all, false
that they have to be made. What is not written out is called as it is. Only for values whose
structure is right: types, cardinalities and names are those of R4.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.fhirpath.parse import parse
from fhir_server.core.fhirpath.surely import Surely
from fhir_server.core.validation.primitive import PRIMITIVES
from fhir_server.core.validation.profile import UNBOUNDED
from fhir_server.core.validation.profile_belonging import Belonging
from fhir_server.core.validation.profile_binding import Bound
from fhir_server.core.validation.profile_checks import All, Conforming, Same, Targeted
from fhir_server.core.validation.profile_element import ElementCheck, Inside
from fhir_server.core.validation.profile_invariant import Kept
from fhir_server.core.validation.profile_run import Check, Run
from fhir_server.core.validation.profile_slices import ByType
from fhir_server.core.validation.profile_slicing import Sliced
from fhir_server.core.validation.profile_source import Source
from fhir_server.core.validation.type_rules import TypeRules

Accept = Callable[[Any, Run], bool]
Accepts = Callable[[str, Any, Run], bool]
"""Whether a value surely conforms to another profile."""


def compile_accept(
    check: Check, type_name: str, rules: TypeRules, types: ElementTypes, accepts: Accepts
) -> Accept | None:
    """A function that is true where `check` of a value of `type_name` surely finds nothing.

    What checks called by it find is in its run. None for a profile that is too big.
    """
    writer = _Writer(rules, types, accepts)
    if type_name not in PRIMITIVES:
        writer.source.unless(f"value.get('resourceType', {type_name!r}) == {type_name!r}", 1)
    writer.value(check, "value", type_name, 1)
    return writer.source.compile("accept", ("value", "run"), "not run.faults")


class _Writer:
    def __init__(self, rules: TypeRules, types: ElementTypes, accepts: Accepts) -> None:
        self.source = Source()
        self._nowhere = self.source.name((None, ""))
        self._rules = rules
        self._types = types
        self._accepts = accepts

    def value(self, check: Check, value: str, type_name: str, depth: int) -> None:
        """Statements that return False unless `check` of the variable `value` is content."""
        match check:
            case All():
                for part in check.checks:
                    self.value(part, value, type_name, depth)
            case Inside():
                self._inside(check, value, depth)
            case Same(expected, is_whole) if not is_whole or isinstance(expected, str):
                self.source.unless(self.source.contains(expected, value), depth)
            case Bound():
                self._bound(check, value, depth)
            case Kept():
                self._kept(check, value, depth)
            case Targeted():
                self._targeted(check, value, depth)
            case Conforming((url,)):
                accepts = self.source.name(self._accepts)
                self.source.unless(f"{accepts}({url!r}, {value}, run)", depth)
            case _:
                self._call(check, value, depth)

    def _call(self, check: Check, value: str, depth: int) -> None:
        name = self.source.name(check)
        self.source.line(depth, f"{name}({value}, None, {self._nowhere}, run)")

    def _bound(self, check: Bound, value: str, depth: int) -> None:
        codes, source = check.codes, self.source
        if codes is None:
            source.line(depth, "return False")
            return
        is_of = source.name(lambda value: check.is_of(value, codes))
        if check.type_name in ("code", "string", "uri"):
            if not codes.systems:
                known = source.name(frozenset(code for _, code in codes.single))
                source.unless(f"{value} in {known}", depth)
        elif check.type_name == "CodeableConcept":
            coding = source.variable()
            single = source.name(codes.single)
            source.line(depth, f"for {coding} in {value}.get('coding', ()):")
            pair = f"({coding}.get('system'), {coding}.get('code'))"
            source.line(depth + 1, f"if {pair} in {single}: break")
            source.line(depth, "else:")
            source.unless(f"{is_of}({value})", depth + 1)
        else:
            single = source.name(codes.single)
            pair = f"({value}.get('system'), {value}.get('code'))"
            source.unless(f"{pair} in {single} or {is_of}({value})", depth)

    def _kept(self, check: Kept, value: str, depth: int) -> None:
        surely = Surely(self._types, check.type_name, check.root_type, value, self.source.name)
        try:
            text = surely.true(parse(check.rule.expression))
        except FhirPathError:
            text = None
        if text is None:
            self._call(check, value, depth)
        else:
            self.source.line(depth, f"if not {text}:")
            self._call(check, value, depth + 1)

    def _targeted(self, check: Targeted, value: str, depth: int) -> None:
        starts = self.source.name(tuple(f"{name}/" for name in check.targets))
        text = self.source.variable()
        self.source.line(depth, f"{text} = {value}.get('reference')")
        self.source.line(depth, f"if {text} is None or not {text}.startswith({starts}):")
        self._call(check, value, depth + 1)

    def _inside(self, check: Inside, holder: str, depth: int) -> None:
        place = self.source.place()
        unsure: set[str] = set()
        for element in check.elements:
            self._element(element, holder, unsure, depth)
        if unsure:
            names = self.source.name(frozenset(unsure))
            self.source.unless(f"{names}.isdisjoint({holder})", depth, place)

    def _element(self, check: ElementCheck, holder: str, unsure: set[str], depth: int) -> None:
        """`unsure` gets the names of properties whose mere presence leaves it open."""
        sliced = check.sliced
        if check.is_missed or (sliced is not None and not self._is_written(check, sliced)):
            name = self.source.name(check)
            self.source.line(depth, f"{name}({holder}, {self._nowhere}, run)")
            return
        unsure |= check.forbidden
        if check.most == 0:
            unsure.update(key for p in check.properties for key in (p.json_name, p.sibling) if key)
        elif check.is_list:
            self._list(check, holder, unsure, depth)
        else:
            self._single(check, holder, unsure, depth)

    def _is_written(self, check: ElementCheck, sliced: Sliced) -> bool:
        slicing = sliced.slicing
        if sliced.untold or slicing.is_ordered or slicing.rules == "openAtEnd":
            return False
        if any(part.inner is not None for part in sliced.slices):
            return False
        return check.is_list or all(isinstance(part.belongs, ByType) for part in sliced.slices)

    def _single(self, check: ElementCheck, holder: str, unsure: set[str], depth: int) -> None:
        """An element that does not repeat: at most one of its properties is there."""
        source = self.source
        needed = [frozenset(p.json_name for p in check.properties)] if check.least else []
        bodies: dict[str, list[Check]] = {
            p.json_name: [check.checks[p.type_name]] if p.type_name in check.checks else []
            for p in check.properties
        }
        if check.sliced is not None:
            needed += self._by_type(check, check.sliced, bodies, unsure)
        for names in needed:
            if len(names) == 1:
                source.unless(f"{next(iter(names))!r} in {holder}", depth)
            else:
                source.unless(f"not {source.name(names)}.isdisjoint({holder})", depth)
        for json_name, type_name, sibling in check.properties:
            if not bodies[json_name]:
                continue
            if sibling:
                unsure.add(sibling)
            value = source.variable()
            source.line(depth, f"{value} = {holder}.get({json_name!r})")
            source.line(depth, f"if {value} is not None:")
            for body in bodies[json_name]:
                self.value(body, value, type_name, depth + 1)
            source.line(depth + 1, "pass")

    def _by_type(
        self,
        check: ElementCheck,
        sliced: Sliced,
        bodies: dict[str, list[Check]],
        unsure: set[str],
    ) -> Sequence[frozenset[str]]:
        """Slices of a choice: which one a value belongs to its name says already."""
        members: list[set[str]] = [set() for _ in sliced.slices]
        for json_name, type_name, _ in check.properties:
            for part, own in zip(sliced.slices, members, strict=True):
                if isinstance(part.belongs, ByType) and type_name in part.belongs.types:
                    own.add(json_name)
                    if part.maximum == 0:
                        unsure.add(json_name)
                    if type_name in part.checks:
                        bodies[json_name].append(part.checks[type_name])
                    break
            else:
                if sliced.slicing.rules == "closed":
                    unsure.add(json_name)
        # With siblings alone they are members, too.
        unsure.update(p.sibling for p in check.properties if p.sibling)
        return [
            frozenset(own) for part, own in zip(sliced.slices, members, strict=True) if part.minimum
        ]

    def _list(self, check: ElementCheck, holder: str, unsure: set[str], depth: int) -> None:
        source, sliced = self.source, check.sliced
        ((json_name, type_name, sibling),) = check.properties
        own = check.checks.get(type_name)
        is_counted = check.least > 1 or check.most != UNBOUNDED
        is_looked_at = own is not None or sliced is not None
        is_needed = check.least > 0 or (
            sliced is not None and any(part.minimum for part in sliced.slices)
        )
        if sibling:
            unsure.add(sibling)
        items = source.variable()
        source.line(depth, f"{items} = {holder}.get({json_name!r})")
        if is_needed:
            source.unless(f"{items} is not None", depth)
        else:
            source.line(depth, f"if {items} is not None:")
            depth += 1
        source.line(depth, "pass")
        if is_counted:
            most = "" if check.most == UNBOUNDED else f" <= {check.most}"
            source.unless(f"{check.least} <= len({items}){most}", depth)
        if not is_looked_at:
            return
        item = source.variable()
        belonging = None
        if sliced is not None:
            belonging = Belonging(source, self._rules, type_name, sliced.slices)
            belonging.write_counters(depth)
        source.line(depth, f"for {item} in {items}:")
        if type_name in PRIMITIVES:
            source.unless(f"{item} is not None", depth + 1)
        if own is not None:
            self.value(own, item, type_name, depth + 1)
        if belonging is not None and sliced is not None:
            self._slices(sliced, belonging, item, type_name, depth)

    def _slices(
        self, sliced: Sliced, belonging: Belonging, item: str, type_name: str, depth: int
    ) -> None:
        source = self.source
        conditions = belonging.write_conditions(item, depth + 1)
        word = "if"
        for part, condition, counter in zip(
            sliced.slices, conditions, belonging.counters, strict=True
        ):
            source.line(depth + 1, f"{word} {condition}:")
            source.line(depth + 2, f"{counter} += 1")
            if type_name in part.checks:
                self.value(part.checks[type_name], item, type_name, depth + 2)
            word = "elif"
        if sliced.slicing.rules == "closed":
            if sliced.slices:
                source.line(depth + 1, "else:")
                source.line(depth + 2, "return False")
            else:
                source.line(depth + 1, "return False")
        for part, counter in zip(sliced.slices, belonging.counters, strict=True):
            if part.minimum or part.maximum != UNBOUNDED:
                most = "" if part.maximum == UNBOUNDED else f" <= {part.maximum}"
                source.unless(f"{part.minimum} <= {counter}{most}", depth)
