"""Value sets: which codes belong to one, asked code by code or told one after the other.

https://hl7.org/fhir/R4/valueset.html#compositions. Nothing is gathered: a code is told by the
first include that has it, so a set of a hundred thousand needs no more memory than its code
system. Where it needs a code system that is not known the answer is neither yes nor no, and
the set cannot be told: one that lost a part would find what it must not.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.code_system import AnyCodeSystem, Concept
from fhir_server.core.terminology.concept_filter import Predicate, compile_filter
from fhir_server.errors import InvalidSearch

# What a search may name without listing it.
MOST_CODES = 5_000


class NotTold(InvalidSearch):
    """A code system is needed that is not known here, or not all of it."""

    code = "not-found"


class Codes(NamedTuple):
    """Single codes as (system, code), and code systems of which every code belongs."""

    single: frozenset[tuple[str, str]] = frozenset()
    systems: frozenset[str] = frozenset()


class Member(NamedTuple):
    """One code of a value set; `version` is that of its code system."""

    system: str
    concept: Concept
    version: str | None = None


class Selection(Protocol):
    """Some codes. `whole` are systems of which every code belongs, though not all are known."""

    @property
    def whole(self) -> frozenset[str]: ...

    def holds(self, system: str, code: str) -> bool | None:
        """Whether a code is among them; None: that cannot be told here."""
        ...

    def members(self) -> Iterator[Member]:
        """Each code once, but for those of `whole`.

        Raises:
            InvalidSearch: they cannot be told.
        """
        ...


FindCodeSystem = Callable[[str, str | None], AnyCodeSystem | None]
FindValueSet = Callable[[str], Selection]


def compile_value_set(
    value_set: Resource, code_system: FindCodeSystem, imported: FindValueSet
) -> Selection:
    """The codes of a ValueSet resource.

    `code_system` gives what is known of a code system by URL and version, `imported` another
    set.

    Raises:
        InvalidSearch: it says nothing of its codes, or what cannot be understood.
    """
    compose = value_set.get("compose")
    if compose is None:
        return _Expanded(value_set)
    return _Composed(
        [_part(each, code_system, imported) for each in compose.get("include") or ()],
        [_part(each, code_system, imported) for each in compose.get("exclude") or ()],
    )


def gather(selection: Selection) -> Codes:
    """All codes of a set, for a search.

    Raises:
        InvalidSearch: they cannot be told, or are too many.
    """
    single: set[tuple[str, str]] = set()
    for member in selection.members():
        single.add((member.system, member.concept.code))
        if len(single) > MOST_CODES:
            raise InvalidSearch(f"the value set has more than {MOST_CODES} codes")
    return Codes(frozenset(single), selection.whole)


class _Expanded:
    """What an expansion lists, for a set that says nothing else."""

    whole: frozenset[str] = frozenset()

    def __init__(self, value_set: Resource) -> None:
        expansion = value_set.get("expansion")
        if expansion is None:
            raise InvalidSearch("the value set says of no code that it belongs to it")
        self._members: dict[tuple[str, str], Member] = {}
        waiting: list[Any] = list(reversed(expansion.get("contains") or ()))
        while waiting:
            item = waiting.pop()
            if item.get("code") and item.get("abstract") is not True:
                system, code = item.get("system") or "", item["code"]
                concept = Concept(code, item.get("display"), _listed_details(item))
                member = Member(system, concept, item.get("version"))
                self._members.setdefault((system, code), member)
            waiting += reversed(item.get("contains") or ())
        total = expansion.get("total")
        self._is_partial = isinstance(total, int) and total > len(self._members)

    def holds(self, system: str, code: str) -> bool | None:
        if (system, code) in self._members:
            return True
        return None if self._is_partial else False

    def members(self) -> Iterator[Member]:
        if self._is_partial:
            raise NotTold("the value set is expanded in part only")
        return iter(self._members.values())


class _OfSystem:
    """The codes of one system: those listed, those that the filters keep, or all."""

    def __init__(self, part: Any, system: str, known: AnyCodeSystem | None) -> None:
        self._system = system
        self._version: str | None = part.get("version") or (known.version if known else None)
        self._known = known
        self._listed: dict[str, Any] | None = None
        if part.get("concept"):
            self._listed = {c["code"]: c for c in part["concept"] if c.get("code")}
        asked = part.get("filter") or ()
        self._is_filtered = bool(asked)
        self._filters: Sequence[Predicate] | None = ()
        if self._is_filtered and self._listed is None:
            usable = known if known is not None and _can_filter(known, asked) else None
            self._filters = [compile_filter(usable, each) for each in asked] if usable else None

    @property
    def whole(self) -> frozenset[str]:
        is_open = self._listed is None and not self._is_filtered
        is_told = self._known is not None and self._known.is_complete and self._known.is_listed
        return frozenset({self._system}) if is_open and not is_told else frozenset()

    def holds(self, system: str, code: str) -> bool | None:
        if system != self._system:
            return False
        if self._listed is not None:
            return code in self._listed
        if self._known is None or self._filters is None:
            return None
        concept = self._known.find(code)
        if concept is None:
            return False if self._known.is_complete else None
        return _is_kept(concept, self._filters)

    def members(self) -> Iterator[Member]:
        if self._listed is not None:
            return (self._member(code, each) for code, each in self._listed.items())
        if self._filters is None:
            raise NotTold("the value set filters a code system that is not all known here")
        if self._known is None or self.whole:
            return iter(())
        return self._told(self._known, self._filters)

    def _told(self, known: AnyCodeSystem, filters: Sequence[Predicate]) -> Iterator[Member]:
        for code in known.codes:
            concept = known.find(code)
            if concept is not None and _is_kept(concept, filters):
                yield Member(self._system, concept, self._version)

    def _member(self, code: str, listed: Any) -> Member:
        known = self._known.find(code) if self._known else None
        display = listed.get("display") or (known.display if known else None)
        details = dict(known.details) if known else {}
        if listed.get("designation"):
            details["designation"] = [*details.get("designation", ()), *listed["designation"]]
        return Member(self._system, Concept(code, display, details), self._version)


class _Together:
    """What all of several selections have."""

    def __init__(self, parts: Sequence[Selection]) -> None:
        self._parts = parts

    @property
    def whole(self) -> frozenset[str]:
        return frozenset.intersection(*(each.whole for each in self._parts))

    def holds(self, system: str, code: str) -> bool | None:
        answers = [each.holds(system, code) for each in self._parts]
        return False if False in answers else None if None in answers else True

    def members(self) -> Iterator[Member]:
        told: set[tuple[str, str]] = set()
        for number, part in enumerate(self._parts):
            others = [*self._parts[:number], *self._parts[number + 1 :]]
            for member in part.members():
                pair = (member.system, member.concept.code)
                # Of a system that is whole there every code belongs, known or not.
                if pair not in told and all(
                    each.holds(*pair) or member.system in each.whole for each in others
                ):
                    told.add(pair)
                    yield member


class _Composed:
    """What is included and not excluded."""

    def __init__(self, includes: Sequence[Selection], excludes: Sequence[Selection]) -> None:
        self._includes = includes
        self._excludes = excludes

    @property
    def whole(self) -> frozenset[str]:
        included = frozenset[str]().union(*(each.whole for each in self._includes))
        return included.difference(*(each.whole for each in self._excludes))

    def holds(self, system: str, code: str) -> bool | None:
        included = _any(self._includes, system, code)
        if included is False:
            return False
        excluded = self._excluded(system, code)
        if excluded:
            return False
        return None if included is None or excluded is None else True

    def members(self) -> Iterator[Member]:
        self._check_excludes()
        for number, part in enumerate(self._includes):
            earlier = self._includes[:number]
            for member in part.members():
                pair = (member.system, member.concept.code)
                if any(each.holds(*pair) for each in earlier):
                    continue
                excluded = self._excluded(*pair)
                if excluded is None:
                    raise NotTold("the value set leaves out what is not known here")
                if not excluded:
                    yield member

    def _excluded(self, system: str, code: str) -> bool | None:
        if any(system in each.whole for each in self._excludes):
            return True
        return _any(self._excludes, system, code)

    def _check_excludes(self) -> None:
        whole = self.whole
        for part in self._excludes if whole else ():
            if any(member.system in whole for member in part.members()):
                raise NotTold(
                    "the value set leaves codes out of a code system that is not known here"
                )


def _any(parts: Sequence[Selection], system: str, code: str) -> bool | None:
    answers = [each.holds(system, code) for each in parts]
    return True if True in answers else None if None in answers else False


def _part(part: Any, code_system: FindCodeSystem, imported: FindValueSet) -> Selection:
    """An include or exclude: all that it says must be true of a code."""
    system = part.get("system")
    found: list[Selection] = [imported(url) for url in part.get("valueSet") or ()]
    if system:
        found.append(_OfSystem(part, system, code_system(system, part.get("version"))))
    if not found:
        raise InvalidSearch("the value set includes what has neither a system nor a value set")
    return found[0] if len(found) == 1 else _Together(found)


def _can_filter(known: AnyCodeSystem, asked: Sequence[Any]) -> bool:
    """Whether what is known of a code system says what filters keep.

    A fragment says what stands below a code that is in it, as far as it goes; it does not say
    what has no property, or stands elsewhere.
    """
    if not known.is_listed or known.is_short:
        return False
    return known.is_complete or all(
        each.get("property") in ("concept", "code")
        and each.get("op") in ("is-a", "descendent-of", "=")
        and known.find(str(each.get("value"))) is not None
        for each in asked
    )


def _is_kept(concept: Concept, filters: Sequence[Predicate]) -> bool:
    return not concept.is_deprecated and all(keeps(concept) for keeps in filters)


def _listed_details(item: Any) -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    if item.get("designation"):
        found["designation"] = item["designation"]
    if item.get("inactive") is True:
        found["property"] = [{"code": "inactive", "valueBoolean": True}]
    return found
