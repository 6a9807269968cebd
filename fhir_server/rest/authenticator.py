"""Authenticator: the door through which every request learns who is asking."""

from collections.abc import Mapping
from typing import Protocol

from starlette.types import Scope

from fhir_server.core.security.principal import ANONYMOUS, Principal


class Authenticator(Protocol):
    """Turns the credentials of a request into a principal. One serves all requests at once."""

    async def authenticate(self, scope: Scope, headers: Mapping[str, str]) -> Principal:
        """Who asks; `headers` have names in lower case.

        Raises:
            Unauthenticated: there are no credentials, or they are no good.
            StoreUnavailable: whether they are good cannot be found out now.
        """
        ...


class Nobody:
    """`AUTH=none`: nobody is asked who they are."""

    async def authenticate(self, _scope: Scope, _headers: Mapping[str, str]) -> Principal:
        return ANONYMOUS
