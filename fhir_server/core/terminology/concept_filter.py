"""Filters of a value set: which concepts of a code system an include is about.

https://hl7.org/fhir/R4/valueset-filter-operator.html. Regular expressions are run by an
engine without backtracking, so none can take longer than its text is long.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jsonschema_rs

from fhir_server.core.terminology.code_system import AnyCodeSystem, Concept
from fhir_server.errors import InvalidSearch

Predicate = Callable[[Concept], bool]

_LONGEST_EXPRESSION = 500
_EXPRESSION_BYTES = 1_000_000
_CODE = frozenset({"concept", "code"})


def compile_filter(known: AnyCodeSystem, asked: Any) -> Predicate:
    """The filter `asked` of a ValueSet, as a test of the concepts of `known`.

    Raises:
        InvalidSearch: it is not one that can be applied.
    """
    name, operator, value = asked.get("property"), asked.get("op"), asked.get("value")
    if not (isinstance(name, str) and isinstance(operator, str) and isinstance(value, str)):
        raise InvalidSearch("a filter of the value set lacks its property, op or value")
    if operator in ("is-a", "descendent-of", "is-not-a", "generalizes"):
        if name not in _CODE:
            raise InvalidSearch("the value set asks for a hierarchy of what has none")
        return _by_place(known, operator, value)
    if operator == "exists":
        wanted = value == "true"
        return lambda concept: bool(_values(known, concept, name)) is wanted
    if operator in ("in", "not-in"):
        named = frozenset(text.strip() for text in value.split(","))
        if operator == "in":
            return lambda concept: not named.isdisjoint(_values(known, concept, name))
        return lambda concept: named.isdisjoint(_values(known, concept, name))
    if operator == "=":
        return lambda concept: value in _values(known, concept, name)
    if operator == "regex":
        matches = compile_expression(value)
        return lambda concept: any(map(matches, _values(known, concept, name)))
    raise InvalidSearch("the value set filters in a way that is not supported")


@lru_cache(maxsize=256)
def compile_expression(text: str) -> Callable[[str], bool]:
    """Whether a whole text is what the regular expression says, in time linear in the text.

    Raises:
        InvalidSearch: it is none, or is too big.
    """
    if len(text) > _LONGEST_EXPRESSION:
        raise InvalidSearch("the value set has a regular expression that is too long")
    options = jsonschema_rs.RegexOptions(size_limit=_EXPRESSION_BYTES)
    try:
        validator = jsonschema_rs.Draft7Validator(
            {"pattern": f"^(?:{text})$"}, pattern_options=options
        )
    except ValueError:
        raise InvalidSearch("the value set has a regular expression that cannot be run") from None
    return validator.is_valid


def _by_place(known: AnyCodeSystem, operator: str, value: str) -> Predicate:
    if operator == "generalizes":
        above = known.above(value)
        return lambda concept: concept.code in above
    below = known.below(value)
    if operator == "is-not-a":
        return lambda concept: concept.code not in below
    if operator == "descendent-of":
        below -= {value}
    return lambda concept: concept.code in below


def _values(known: AnyCodeSystem, concept: Concept, name: str) -> tuple[str, ...]:
    """What a concept has of a property, as text."""
    if name in _CODE:
        return (concept.code,)
    if name in ("display", "definition"):
        found = concept.display if name == "display" else concept.details.get("definition")
        return (found,) if found else ()
    if name in ("parent", "child"):
        near = known.above(concept.code) if name == "parent" else known.below(concept.code)
        return tuple(each for each in near - {concept.code} if _is_next(known, concept, each, name))
    return tuple(
        text
        for each in concept.details.get("property", ())
        if each.get("code") == name
        for key, value in each.items()
        if key.startswith("value") and (text := _text(value)) is not None
    )


def _is_next(known: AnyCodeSystem, concept: Concept, other: str, name: str) -> bool:
    lower, upper = (concept.code, other) if name == "parent" else (other, concept.code)
    return upper in known.parents(lower)


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        code = value.get("code")
        return code if isinstance(code, str) else None
    return str(value)
