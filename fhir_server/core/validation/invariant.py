"""Invariant: a rule about the elements of one type, as a function and as a schema.

https://hl7.org/fhir/R4/conformance-rules.html#constraints. `holds` decides; `guard` is
a JSON Schema that accepts only what holds, so most resources never reach `holds`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from fhir_server.core.resource_json import Resource

Schema = dict[str, Any]

NO_GUARD: Schema = {}


class Invariant(NamedTuple):
    """A rule of one type, by its key in the specification. `text` names no value."""

    key: str
    type_name: str
    text: str
    holds: Callable[[Resource], bool]
    guard: Schema


class Invariants:
    """The invariants by the type they are about."""

    def __init__(self, invariants: Iterable[Invariant]) -> None:
        self._by_type: dict[str, tuple[Invariant, ...]] = {}
        for invariant in invariants:
            own = self._by_type.get(invariant.type_name, ())
            self._by_type[invariant.type_name] = (*own, invariant)

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(i.key for own in self._by_type.values() for i in own)

    def of(self, type_name: str) -> tuple[Invariant, ...]:
        return self._by_type.get(type_name, ())


def has(value: Resource, names: Iterable[str]) -> bool:
    return any(name in value or "_" + name in value for name in names)


def needs(key: str, type_name: str, text: str, when: tuple[str, ...], other: str) -> Invariant:
    """Where any of `when` is, `other` must be."""
    dependencies: Mapping[str, Any] = {name: [other] for one in when for name in (one, "_" + one)}
    return Invariant(
        key,
        type_name,
        text,
        lambda value: not has(value, when) or has(value, (other,)),
        {"dependencies": dependencies},
    )


def excludes(
    key: str, type_name: str, text: str, one: tuple[str, ...], other: tuple[str, ...]
) -> Invariant:
    """Nothing of `one` beside anything of `other`."""
    return Invariant(
        key,
        type_name,
        text,
        lambda value: not (has(value, one) and has(value, other)),
        never_together(one, other),
    )


def needs_any(key: str, type_name: str, text: str, names: tuple[str, ...]) -> Invariant:
    return Invariant(
        key,
        type_name,
        text,
        lambda value: has(value, names),
        {"anyOf": [{"required": [name]} for name in names]},
    )


def never_together(one: Iterable[str], other: Iterable[str]) -> Schema:
    absent: Schema = {"properties": {n: {"not": {}} for name in other for n in (name, "_" + name)}}
    return {"dependencies": {n: absent for name in one for n in (name, "_" + name)}}


def never(*names: str) -> Schema:
    return {"properties": {name: {"not": {}} for name in names}}


def not_negative(name: str) -> Schema:
    return {"properties": {name: {"minimum": 0}}}
