"""SMART scopes, of version 1 and 2, with granular search parameters.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import re
from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

from fhir_server.core import query_string
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidSearch

Context = Literal["patient", "user", "system"]
Permission = Literal["c", "r", "u", "d", "s"]

ANY_TYPE = "*"

MAX_SCOPES = 200
"""More than that is no grant that somebody made; what is over it is not read."""

_SCOPE = re.compile(
    r"(patient|user|system)/(\*|[A-Z][A-Za-z]{1,63})\.([a-z]{1,5}|\*)(?:\?([!-~]+))?", re.ASCII
)
_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}
# One of each at most, and in this order: "sr" is no permission.
_VERSION_2 = re.compile(r"(?=.)c?r?u?d?s?")


class Scope(NamedTuple):
    """A grant: these interactions with resources of this type, in this context.

    `permissions` are letters of create, read (and vread, and an instance's history), update
    (and patch), delete, search (and a type's history). `params` are search criteria that a
    resource must match for the grant to reach it; all of them.
    """

    context: Context
    resource_type: str
    permissions: frozenset[Permission]
    params: Params = ()

    def covers(self, resource_type: str, permission: Permission) -> bool:
        """Whether the grant reaches some resource of the type; which of them, `params` say."""
        return permission in self.permissions and self.resource_type in (ANY_TYPE, resource_type)


def parse(text: str) -> Scope | None:
    """`patient/Observation.rs?category=laboratory`, or None: it grants nothing here.

    `openid`, `launch` and the like are none; nor is one that is misspelt, for what cannot be
    read must not become a wider grant.
    """
    found = _SCOPE.fullmatch(text)
    if found is None:
        return None
    context, resource_type, access, query = found.groups()
    letters = _VERSION_1.get(access, access)
    if _VERSION_2.fullmatch(letters) is None or (query is not None and access in _VERSION_1):
        return None
    params: Params = ()
    if query is not None:
        try:
            params = query_string.parse(query)
        except InvalidSearch:
            return None
        if len(params) != query.count("&") + 1 or not all(value for _, value in params):
            return None
    permissions = frozenset(cast("Iterable[Permission]", letters))
    return Scope(cast(Context, context), resource_type, permissions, params)


def parse_all(text: str) -> tuple[Scope, ...]:
    """The grants of a space-separated list (`scope` of a token), each once, in order."""
    found = (parse(word) for word in text.split(" ")[:MAX_SCOPES])
    return tuple(dict.fromkeys(each for each in found if each is not None))


def format(scope: Scope) -> str:  # noqa: A001 - beside `parse`
    """As version 2 writes it."""
    letters = "".join(letter for letter in "cruds" if letter in scope.permissions)
    query = f"?{query_string.format(scope.params)}" if scope.params else ""
    return f"{scope.context}/{scope.resource_type}.{letters}{query}"


def narrow(asked: str, allowed: tuple[Scope, ...], words: Iterable[str] = ()) -> tuple[str, ...]:
    """What of the scopes `asked` for is `allowed`, each as version 2 writes it or a word.

    `words` are those that are no grants but may be given (`openid`, `offline_access`). A
    grant is the intersection: `system/*.cruds`, asked of `system/Observation.rs`, gives
    just that.
    """
    known = frozenset(words)
    given: dict[str, None] = {}
    for word in asked.split(" ")[:MAX_SCOPES]:
        if word in known:
            given[word] = None
        scope = parse(word)
        for limit in allowed if scope is not None else ():
            both = intersect(cast(Scope, scope), limit)
            if both is not None:
                given[format(both)] = None
    return tuple(given)


def intersect(asked: Scope, limit: Scope) -> Scope | None:
    """What both grant; None is nothing."""
    types = {asked.resource_type, limit.resource_type} - {ANY_TYPE}
    permissions = asked.permissions & limit.permissions
    if asked.context != limit.context or len(types) > 1 or not permissions:
        return None
    params = tuple(dict.fromkeys((*limit.params, *asked.params)))
    return Scope(asked.context, types.pop() if types else ANY_TYPE, permissions, params)
