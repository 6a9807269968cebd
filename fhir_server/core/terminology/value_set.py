"""Value sets: the codes that one is made of.

https://hl7.org/fhir/R4/valueset.html#compositions. What would need a code system that is
not known is refused: a set that lost a part would find what it must not.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.code_system import CodeSystem
from fhir_server.errors import InvalidSearch

MOST_CODES = 5_000

_BELOW = frozenset({"is-a", "descendent-of"})


class Codes(NamedTuple):
    """Single codes as (system, code), and code systems of which every code belongs."""

    single: frozenset[tuple[str, str]] = frozenset()
    systems: frozenset[str] = frozenset()

    def __or__(self, other: "Codes") -> "Codes":
        return Codes(self.single | other.single, self.systems | other.systems)


FindCodeSystem = Callable[[str], CodeSystem | None]
FindValueSet = Callable[[str], Codes]


def expand(value_set: Resource, code_system: FindCodeSystem, imported: FindValueSet) -> Codes:
    """The codes of a ValueSet resource.

    `code_system` gives what is known of a code system, `imported` the codes of another set.

    Raises:
        InvalidSearch: they cannot be told, or are too many.
    """
    compose = value_set.get("compose")
    if compose is None:
        return _expansion(value_set)
    codes = Codes()
    for part in compose.get("include") or ():
        codes |= _part(part, code_system, imported)
    for part in compose.get("exclude") or ():
        codes = _without(codes, _part(part, code_system, imported), code_system)
    if len(codes.single) > MOST_CODES:
        raise InvalidSearch(f"the value set has more than {MOST_CODES} codes")
    return codes


def _expansion(value_set: Resource) -> Codes:
    """What an expansion lists, for a set that says nothing else."""
    expansion = value_set.get("expansion")
    if expansion is None:
        raise InvalidSearch("the value set says of no code that it belongs to it")
    found: set[tuple[str, str]] = set()
    waiting: list[Any] = list(expansion.get("contains") or ())
    while waiting:
        item = waiting.pop()
        if item.get("code") and item.get("abstract") is not True:
            found.add((item.get("system") or "", item["code"]))
        waiting += item.get("contains") or ()
    total = expansion.get("total")
    if isinstance(total, int) and total > len(found):
        raise InvalidSearch("the value set is expanded in part only")
    return Codes(frozenset(found))


def _part(part: Any, code_system: FindCodeSystem, imported: FindValueSet) -> Codes:
    """An include or exclude: all that it says must be true of a code."""
    system = part.get("system")
    sets = [imported(url) for url in part.get("valueSet") or ()]
    if system:
        sets.append(_of_system(part, system, code_system))
    if not sets:
        raise InvalidSearch("the value set includes what has neither a system nor a value set")
    found = sets[0]
    for other in sets[1:]:
        found = _both(found, other)
    return found


def _of_system(part: Any, system: str, find: FindCodeSystem) -> Codes:
    concepts, filters = part.get("concept"), part.get("filter")
    if concepts:
        return Codes(frozenset((system, c["code"]) for c in concepts if c.get("code")))
    known = find(system)
    if not filters:
        if known is None or not known.is_complete:
            return Codes(systems=frozenset({system}))
        return Codes(frozenset((system, code) for code in known.codes))
    if known is None:
        raise InvalidSearch("the value set filters a code system that is not known here")
    kept = frozenset(known.codes)
    for asked in filters:
        kept &= _filtered(known, asked)
    return Codes(frozenset((system, code) for code in kept))


def _filtered(known: CodeSystem, asked: Any) -> frozenset[str]:
    operator, value = asked.get("op"), asked.get("value")
    if asked.get("property") not in ("concept", "code") or not isinstance(value, str):
        raise InvalidSearch("the value set filters by a property that is not supported")
    if operator in _BELOW:
        below = known.below(value)
        return below - {value} if operator == "descendent-of" else below
    if operator == "is-not-a":
        return frozenset(known.codes) - known.below(value)
    if operator == "generalizes":
        return known.above(value)
    if operator == "=":
        return frozenset({value})
    if operator in ("in", "not-in"):
        named = frozenset(text.strip() for text in value.split(","))
        return named if operator == "in" else frozenset(known.codes) - named
    raise InvalidSearch("the value set filters in a way that is not supported")


def _both(left: Codes, right: Codes) -> Codes:
    single = (
        (left.single & right.single)
        | {pair for pair in left.single if pair[0] in right.systems}
        | {pair for pair in right.single if pair[0] in left.systems}
    )
    return Codes(frozenset(single), left.systems & right.systems)


def _without(codes: Codes, excluded: Codes, find: FindCodeSystem) -> Codes:
    single = {
        pair
        for pair in codes.single
        if pair not in excluded.single and pair[0] not in excluded.systems
    }
    systems = codes.systems - excluded.systems
    if systems & _systems(excluded.single):
        raise InvalidSearch(
            "the value set leaves codes out of a code system that is not known here"
        )
    return Codes(frozenset(single), systems)


def _systems(single: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(system for system, _ in single)
