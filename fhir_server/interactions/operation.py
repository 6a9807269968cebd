"""Operations: what is called by a `$name`, as values that routes and statements are made of.

https://hl7.org/fhir/R4/operations.html
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from fhir_server.core.operation_input import Inputs
from fhir_server.errors import NotFound

if TYPE_CHECKING:
    from fhir_server.interactions.context import Context

Level = Literal["system", "type", "instance"]


class Invocation(NamedTuple):
    """One call of an operation; what its level does not name is None."""

    resource_type: str | None
    resource_id: str | None
    inputs: Inputs
    is_strict: bool = False

    @property
    def level(self) -> Level:
        if self.resource_type is None:
            return "system"
        return "type" if self.resource_id is None else "instance"


class Operation(NamedTuple):
    """One operation; `definition` is the URL of its OperationDefinition.

    `perform` gives the answer, a resource as JSON. `resource_types` empty is all. What
    does not affect the state may be called by GET.
    """

    name: str
    definition: str
    perform: "Callable[[Context, Invocation], Awaitable[bytes]]"
    levels: tuple[Level, ...]
    resource_types: frozenset[str] = frozenset()
    affects_state: bool = False

    def is_at(self, level: Level, resource_type: str | None) -> bool:
        """Whether it can be called there."""
        return level in self.levels and (
            resource_type is None or not self.resource_types or resource_type in self.resource_types
        )


class Operations:
    """Every operation that this server has; a name may mean one for each type."""

    def __init__(self, operations: Iterable[Operation] = ()) -> None:
        self.all = tuple(operations)

    def find(self, name: str, level: Level, resource_type: str | None) -> Operation:
        """The operation of that name.

        Raises:
            NotFound: there is none at that level, or for that type.
        """
        for operation in self.all:
            if operation.name == name and operation.is_at(level, resource_type):
                return operation
        raise NotFound("there is no such operation here")
