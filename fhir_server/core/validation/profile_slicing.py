"""Sliced: the items of one list checked by the slices that they belong to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from fhir_server.core.validation.profile import ABSENT, UNBOUNDED, Node, ProfileFault, Slicing
from fhir_server.core.validation.profile_run import Check, Run, Where
from fhir_server.core.validation.profile_slices import Belongs, slicing_of
from fhir_server.core.validation.profile_value import equals
from fhir_server.core.validation.type_rules import ElementRule

if TYPE_CHECKING:
    from fhir_server.core.validation.profile_compile import _Compiler

Item = tuple[Any, Any, str, Where]
"""A value, what stands beside it as ``_name``, its type, and its place."""


class Slice(NamedTuple):
    """One slice, and what is checked of its items by their type."""

    name: str
    spot: str
    belongs: Belongs
    minimum: int
    maximum: int
    checks: dict[str, Check]
    inner: Union["Sliced", None]


class Sliced:
    """The slices of one element. An item belongs to the first slice that takes it."""

    def __init__(
        self, slicing: Slicing, slices: Sequence[Slice], untold: Sequence[str], profile: str
    ) -> None:
        self.slicing = slicing
        self.slices = tuple(slices)
        self.untold = tuple(untold)
        self._profile = profile

    @classmethod
    def of(
        cls,
        compiler: "_Compiler",
        node: Node,
        element: ElementRule,
        type_names: Sequence[str],
        name: str,
        spot: str,
        inherited: Slicing | None = None,
    ) -> Union["Sliced", None]:
        """None where there is nothing that slices could demand."""
        slicing = slicing_of(node, name) or inherited
        if slicing is None or not (node.slices or slicing.rules == "closed"):
            return None
        slices, untold = [], []
        for slice_name, part in node.slices.items():
            at = f"{spot}:{slice_name}"
            try:
                belongs = compiler.matchers.matcher(slicing, part)
            except ProfileFault:
                untold.append(at)
                continue
            rest = compiler.part(part, node)
            checks = {
                type_name: check
                for type_name in type_names
                if (check := compiler.value(rest, type_name, element, at)) is not None
            }
            inner = cls.of(
                compiler, part, element, type_names, name, at, slicing._replace(rules="open")
            )
            most = UNBOUNDED if part.maximum is None else part.maximum
            slices.append(Slice(slice_name, at, belongs, part.minimum or 0, most, checks, inner))
        if not slices and not untold and slicing.rules != "closed":
            return None
        return cls(slicing, slices, untold, compiler.profile_url)

    def check(self, items: Sequence[Item], where: Where, run: Run) -> None:
        members: list[list[Item]] = [[] for _ in self.slices]
        last, has_other = -1, False
        for item in items:
            value, sibling, type_name, place = item
            found = self._find(value, type_name, run)
            if found < 0:
                has_other = True
                if self.slicing.rules == "closed" and not self.untold:
                    self._add(
                        "structure", "belongs to no slice, and no other is allowed", place, run
                    )
                continue
            if has_other and self.slicing.rules == "openAtEnd":
                self._add("structure", "what belongs to no slice must stand at the end", place, run)
            if self.slicing.is_ordered and found < last:
                self._add("structure", "stands before what its slice must follow", place, run)
            last = max(last, found)
            members[found].append(item)
            check = self.slices[found].checks.get(type_name)
            if check is not None:
                check(value, sibling, place, run)
        for one, own in zip(self.slices, members, strict=True):
            count = len(own)
            if count < one.minimum:
                text = f"at least {one.minimum} of the slice {one.name} needed, {count} there"
                run.add("required", text, where, self._profile, f"{one.spot} min")
            elif one.maximum != UNBOUNDED and count > one.maximum:
                text = f"at most {one.maximum} of the slice {one.name} allowed, {count} there"
                run.add("structure", text, where, self._profile, f"{one.spot} max")
            if one.inner is not None:
                one.inner.check(own, where, run)
        for spot in self.untold:
            text = "nothing tells what belongs to a slice, so it is not checked"
            run.add("informational", text, where, self._profile, spot, "information")

    def _find(self, value: Any, type_name: str, run: Run) -> int:
        for number, one in enumerate(self.slices):
            if one.belongs(value, type_name, run):
                return number
        return -1

    def _add(self, code: str, text: str, where: Where, run: Run) -> None:
        run.add(code, text, where, self._profile, f"slicing {self.slicing.rules}")


def lighter(part: Node, whole: Node) -> Node:
    """`part` without what `whole` demands as well, so that it is not looked at twice."""
    children = {
        name: lighter(child, whole.children[name]) if name in whole.children else child
        for name, child in part.children.items()
    }
    return replace(
        part,
        minimum=None if part.minimum == whole.minimum else part.minimum,
        maximum=None if part.maximum == whole.maximum else part.maximum,
        types=None if part.types == whole.types else part.types,
        binding=None if part.binding == whole.binding else part.binding,
        fixed=ABSENT if equals(part.fixed, whole.fixed) else part.fixed,
        pattern=ABSENT if equals(part.pattern, whole.pattern) else part.pattern,
        rules={key: rule for key, rule in part.rules.items() if key not in whole.rules},
        slices={},
        children=children,
    )
