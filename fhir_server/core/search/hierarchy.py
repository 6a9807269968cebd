"""Hierarchies: references and URIs above or below others.

`location:below=Location/1` is that location, all that are part of it, and theirs. A type
has a hierarchy where a parameter of it says what each is part of. A chain of references is
followed `DEEPEST` levels, so that a circle ends.
https://hl7.org/fhir/R4/search.html#modifiers
"""

from collections.abc import Iterator

from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType
from fhir_server.core.search.query import (
    Chain,
    Clause,
    Criterion,
    Has,
    ReferenceValue,
    TokenValue,
)

DEEPEST = 8

_PART_OF = ("partof", "part-of", "parent")


def part_of(parameters: SearchParameters, resource_type: str) -> SearchParameter | None:
    """The parameter that says which resource of its own type one is part of."""
    for code in _PART_OF:
        found = parameters.get(resource_type, code)
        if (
            found is not None
            and found.type is SearchType.REFERENCE
            and resource_type in found.target_types
        ):
            return found
    return None


def below(
    parameter: SearchParameter, parent: SearchParameter, value: ReferenceValue
) -> Iterator[Criterion]:
    """References to `value`, or to what is part of it: any of these."""
    yield Clause(parameter, "", (value,))
    inner: Criterion = Clause(parent, "", (value,))
    for _ in range(DEEPEST):
        yield Chain(parameter, parent.resource_type, inner)
        inner = Chain(parent, parent.resource_type, inner)


def above(
    parameter: SearchParameter,
    parent: SearchParameter,
    identity: SearchParameter,
    value: ReferenceValue,
) -> Iterator[Criterion]:
    """References to `value`, or to what it is part of: any of these.

    `identity` is `_id` of its type.
    """
    yield Clause(parameter, "", (value,))
    inner: Criterion = Clause(identity, "", (TokenValue(None, value.resource_id),))
    for _ in range(DEEPEST):
        inner = Has(parent, inner)
        yield Chain(parameter, parent.resource_type, inner)


def uris_above(uri: str) -> Iterator[str]:
    """`uri` and those it is below, by its path; with and without a slash at the end."""
    scheme, colon, rest = uri.partition("://")
    if not colon:
        return
    parts = rest.rstrip("/").split("/")
    yield uri
    for length in range(1, len(parts) + 1):
        parent = f"{scheme}://{'/'.join(parts[:length])}"
        yield parent
        if length < len(parts) or uri.endswith("/"):
            yield parent + "/"
