"""Operations: what is called by a `$name`, as values that routes and statements are made of.

https://hl7.org/fhir/R4/operations.html
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from fhir_server.core.identity import is_resource_id
from fhir_server.core.operation_input import Inputs
from fhir_server.errors import NotFound, Unsupported

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
    does not affect the state may be called by GET. `takes_resource`: the body may be the
    input `resource` itself.
    """

    name: str
    definition: str
    perform: "Callable[[Context, Invocation], Awaitable[bytes]]"
    levels: tuple[Level, ...]
    resource_types: frozenset[str] = frozenset()
    affects_state: bool = False
    takes_resource: bool = False

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


async def invoke(
    ctx: "Context",
    name: str,
    target: Sequence[str],
    inputs: Inputs,
    *,
    is_strict: bool,
    is_read_only: bool,
) -> bytes:
    """The answer of the operation `name`, called on `target`: nothing, a type, or a resource.

    Raises:
        NotFound: there is no such operation, type or resource.
        Unsupported: it affects the state, which a call that is `is_read_only` must not.
        FhirError: what the operation raises.
    """
    if len(target) > 2:
        raise NotFound("there is no such operation here")
    resource_type, resource_id = (*target, None, None)[:2]
    if resource_type is not None and resource_type not in ctx.validator.resource_types:
        raise NotFound("there is no such resource type in R4; mind the case")
    if resource_id is not None and not is_resource_id(resource_id):
        raise NotFound("no resource has such an id: 1 to 64 of A-Z, a-z, 0-9, - and .")
    invocation = Invocation(resource_type, resource_id, inputs, is_strict)
    operation = ctx.operations.find(name, invocation.level, resource_type)
    if operation.affects_state and is_read_only:
        raise Unsupported(f"${name} changes what is stored: it is called by POST")
    return await operation.perform(ctx, invocation)
