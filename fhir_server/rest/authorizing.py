"""Authorizing: a request's credentials turned into the Context that it is answered from."""

from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from fhir_server.core import reference
from fhir_server.core.identity import ResourceKey
from fhir_server.core.security.glass import BrokenGlass
from fhir_server.core.security.principal import ANONYMOUS
from fhir_server.core.security.scope import Permission
from fhir_server.errors import Forbidden, InvalidRequest
from fhir_server.interactions.context import Context
from fhir_server.rest.authenticator import Nobody

GLASS, GLASS_REASON = "x-break-glass", "x-break-glass-reason"

# What this server can do is told to anyone.
_PUBLIC = frozenset({"capabilities", "smart-configuration"})
_ENROLLED = ("Device", "DeviceUseStatement", "CarePlan", "Goal")
_LONGEST_REASON = 500


async def authorized(state: Any, ctx: Context, scope: Scope, headers: Mapping[str, str]) -> Context:
    """`ctx` as whoever sent the request may use it.

    Raises:
        Unauthenticated: they do not show who they are.
        Forbidden: they may not ask so.
        StoreUnavailable: it cannot be told now.
    """
    # Whoever stood at the door may have asked already.
    principal = scope.get("principal")
    if principal is None:
        if isinstance(state.authenticator, Nobody):
            return ctx
        is_public = getattr(scope.get("route"), "interaction", "") in _PUBLIC
        principal = (
            ANONYMOUS if is_public else await state.authenticator.authenticate(scope, headers)
        )
    given: Context = await state.authorizer.authorize(ctx, principal, _parse_glass(headers))
    return given


def check_intake(ctx: Context) -> None:
    """Raises `Forbidden` unless readings of anybody's devices may be handed in.

    A device's reading is placed by assignments that its sender need not see. So it is
    gateways that send them, and who may create Observations about everyone.
    """
    reach = ctx.reach
    if reach is None or reach.principal.kind == "gateway":
        return
    if not (reach.grants("c", "Observation") and reach.is_wide("Observation")):
        raise Forbidden("readings are handed in by gateways")


def check_enrolling(ctx: Context) -> None:
    """Raises `Forbidden` unless anybody's devices may be assigned."""
    reach = ctx.reach
    if reach is not None and not all(
        reach.grants("c", each) and reach.is_wide(each) for each in _ENROLLED
    ):
        raise Forbidden("patients are enrolled by those who assign everyone's devices")


def check_quarantine(ctx: Context, *, is_change: bool) -> None:
    """Raises `Forbidden` unless all that waits may be seen, whomever it is about."""
    reach = ctx.reach
    acts: tuple[Permission, ...] = ("s", "u") if is_change else ("s",)
    if reach is not None and not (
        reach.is_wide("Task") and all(reach.grants(act, "Task") for act in acts)
    ):
        raise Forbidden("the quarantine is shown to those who see everyone's Tasks")


def _parse_glass(headers: Mapping[str, str]) -> BrokenGlass | None:
    text = headers.get(GLASS)
    if text is None:
        return None
    found = reference.parse(text.strip())
    if found is None or found.resource_type != "Patient" or found.version:
        raise InvalidRequest("X-Break-Glass names the patient: Patient/id")
    reason = headers.get(GLASS_REASON, "").strip()
    if not 0 < len(reason) <= _LONGEST_REASON:
        raise InvalidRequest("X-Break-Glass-Reason says why, in a few words")
    return BrokenGlass(ResourceKey(found.resource_type, found.resource_id), reason)
