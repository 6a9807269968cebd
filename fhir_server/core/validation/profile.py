"""Profile: a StructureDefinition as a tree of what it demands beyond its type.

https://hl7.org/fhir/R4/profiling.html. What a snapshot merely repeats of the type is in the
tree as well; `profile_compile` leaves it out of the checks.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple

UNBOUNDED = -1


class _Absent(Enum):
    """A sentinel that stays itself in a copy."""

    ABSENT = 0


ABSENT: Any = _Absent.ABSENT
"""No fixed or pattern value."""

RESOURCE_BASE = "http://hl7.org/fhir/StructureDefinition/"


class ProfileFault(ValueError):
    """A StructureDefinition that cannot be used; the text names the element."""


class TypeRef(NamedTuple):
    """A type that an element may have; `profiles` are of the value, `targets` of a Reference."""

    code: str
    profiles: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    aggregation: tuple[str, ...] = ()


class Binding(NamedTuple):
    """`strength` is required or extensible: the others demand nothing."""

    strength: Literal["required", "extensible"]
    value_set: str


class Rule(NamedTuple):
    """An invariant of a profile."""

    key: str
    severity: str
    human: str
    expression: str


class Slicing(NamedTuple):
    """How items are told apart: discriminators as (type, path)."""

    discriminators: tuple[tuple[str, str], ...]
    rules: str = "open"
    is_ordered: bool = False


@dataclass(slots=True)
class Node:
    """What is demanded at one element, or of one slice of it; None is nothing said."""

    minimum: int | None = None
    maximum: int | None = None
    types: tuple[TypeRef, ...] | None = None
    fixed: Any = ABSENT
    pattern: Any = ABSENT
    least: Any = None
    greatest: Any = None
    max_length: int | None = None
    binding: Binding | None = None
    rules: dict[str, Rule] = field(default_factory=dict)
    is_must_support: bool = False
    slicing: Slicing | None = None
    slices: dict[str, "Node"] = field(default_factory=dict)
    children: dict[str, "Node"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile by its canonical URL; `type_name` is a resource type or a datatype."""

    url: str
    version: str
    type_name: str
    root: Node
