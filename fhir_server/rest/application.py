"""Application: FastAPI, with FHIR's requests led past what only its own routes need.

FHIR's routes answer their own errors and bound their own bodies. FastAPI's middlewares,
its routing and its stack of open files would be a third of the price of a read.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from fhir_server.rest import cors, routes
from fhir_server.rest.audit_edge import AuditEdge
from fhir_server.rest.authenticator import Nobody
from fhir_server.rest.connection import ConnectionLimits
from fhir_server.rest.dispatch import FhirDispatch
from fhir_server.rest.draining import Draining
from fhir_server.rest.fair_share import ClientLimits, FairShare
from fhir_server.rest.gate import Gate
from fhir_server.rest.request_id import RequestIds


class Application(FastAPI):
    """Serves FHIR below `/fhir`; every request, FHIR's or not, goes through `RequestIds`.

    Web pages of `origins` may call it. `limits` are those of each client, `connections` those
    that `Connection` keeps.
    """

    def __init__(
        self,
        draining: Draining,
        origins: Sequence[str] = (),
        limits: ClientLimits = ClientLimits(),  # noqa: B008 - immutable
        connections: ConnectionLimits = ConnectionLimits(),  # noqa: B008 - immutable
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.state.draining = draining
        self.state.authenticator = Nobody()
        self.state.audit_journal = None
        self.state.own_doors = frozenset()
        self._fhir: FhirDispatch = routes.install(self)
        self.state.connection_limits = connections
        self._origins = origins
        self._shared = FairShare(self._lead, limits)
        self._edge: ASGIApp | None = None

    def _compose(self) -> ASGIApp:
        """What stands around the routes, once start-up has said what that has to do.

        Where nobody is asked and nothing recorded, no doorkeeper is in the way of a request.
        """
        edge: ASGIApp = self._shared
        if not isinstance(self.state.authenticator, Nobody):
            edge = Gate(edge)
        if self.state.audit_journal is not None or edge is not self._shared:
            edge = AuditEdge(edge)
        return RequestIds(cors.allow(edge, self._origins), self.state.draining)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["app"] = self
            if self._edge is None:
                self._edge = self._compose()
            await self._edge(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def _lead(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._fhir.matches(scope)[0] is Match.FULL:
            await self._fhir.handle(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)
