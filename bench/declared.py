"""What a server declares in its CapabilityStatement, as words that a load can ask for."""

from collections.abc import Iterator
from typing import Any


def declared(statement: dict[str, Any]) -> frozenset[str]:
    """`transaction`, `Observation.create`, `Observation?code`, `Observation$lastn` and the like.

    `Observation+Observation:patient` is an _include.
    """
    return frozenset(
        word for rest in statement.get("rest", ()) if rest.get("mode") == "server"
        for word in _of_rest(rest)
    )  # fmt: skip


def _of_rest(rest: dict[str, Any]) -> Iterator[str]:
    for interaction in rest.get("interaction", ()):
        yield interaction["code"]
    everywhere = [parameter["name"] for parameter in rest.get("searchParam", ())]
    for resource in rest.get("resource", ()):
        name = resource["type"]
        for interaction in resource.get("interaction", ()):
            yield f"{name}.{interaction['code']}"
        own = [parameter["name"] for parameter in resource.get("searchParam", ())]
        for parameter in (*everywhere, *own):
            yield f"{name}?{parameter}"
        includes = resource.get("searchInclude", ())
        for include in includes:
            yield f"{name}+{include}"
        if "*" in includes:
            # Every reference that can be searched by, which is what a wildcard includes.
            for parameter in resource.get("searchParam", ()):
                if parameter.get("type") == "reference":
                    yield f"{name}+{name}:{parameter['name']}"
        for operation in resource.get("operation", ()):
            yield f"{name}${operation['name'].removeprefix('$')}"


def missing(needs: tuple[str, ...], words: frozenset[str]) -> tuple[str, ...]:
    """What a load needs and the server does not declare."""
    return tuple(need for need in needs if need not in words)
