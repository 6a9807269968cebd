"""FHIRPath expressions as values: what the text says, before any types are known.

https://hl7.org/fhirpath/N1/#expressions
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Union

Literal = str | bool | int | Decimal


@dataclass(frozen=True, slots=True)
class Name:
    """The first step of a path: a type (`Observation`) or an element of the focus (`code`)."""

    name: str


@dataclass(frozen=True, slots=True)
class Focus:
    """The `$this`: what the expression is applied to."""


@dataclass(frozen=True, slots=True)
class Root:
    """`%resource`: the resource that holds what the expression is applied to."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal."""

    value: Literal


@dataclass(frozen=True, slots=True)
class Member:
    """`source.name`."""

    source: "Expression"
    name: str


@dataclass(frozen=True, slots=True)
class OfType:
    """`source.ofType(T)`, and `source as T`, which R4 writes for lists too."""

    source: "Expression"
    type_name: str


@dataclass(frozen=True, slots=True)
class IsType:
    """`source is T`."""

    source: "Expression"
    type_name: str


@dataclass(frozen=True, slots=True)
class Where:
    """`source.where(condition)`."""

    source: "Expression"
    condition: "Expression"


@dataclass(frozen=True, slots=True)
class Item:
    """`source[index]`; `first()` is `[0]`."""

    source: "Expression"
    index: int


@dataclass(frozen=True, slots=True)
class Resolve:
    """`source.resolve()`; only the type of what it refers to can be asked."""

    source: "Expression"


@dataclass(frozen=True, slots=True)
class Call:
    """`source.exists()`, `empty`, `not`, `hasValue`, `count`, `length` or `toString`."""

    source: "Expression"
    function: str


@dataclass(frozen=True, slots=True)
class Operation:
    """`left operator right` with `=`, `!=`, `<`, `>`, `<=`, `>=`, `and`, `or`, `implies`."""

    operator: str
    left: "Expression"
    right: "Expression"


@dataclass(frozen=True, slots=True)
class Alternatives:
    """`a | b | c`."""

    items: tuple["Expression", ...]


Expression = Union[  # noqa: UP007 - the names are not known yet
    Name,
    Focus,
    Root,
    Constant,
    Member,
    OfType,
    IsType,
    Where,
    Item,
    Resolve,
    Call,
    Operation,
    Alternatives,
]


class FhirPathError(ValueError):
    """An expression that is no FHIRPath, or uses more of it than is compiled here."""


def alternatives(expression: Expression) -> tuple[Expression, ...]:
    """The members of a union, however it was nested; one of itself for anything else."""
    if isinstance(expression, Alternatives):
        return tuple(found for item in expression.items for found in alternatives(item))
    return (expression,)
