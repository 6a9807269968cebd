"""Authorize: from who is asking to what they are given: a Context that holds no more.

https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from threading import Lock

from fhir_server.core import resource_json
from fhir_server.core.query_string import Params
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.security import subscriber
from fhir_server.core.security.circle import Circle
from fhir_server.core.security.glass import BrokenGlass
from fhir_server.core.security.principal import Principal
from fhir_server.core.security.reach import Reach
from fhir_server.core.security.restriction import Criteria, Knowledge
from fhir_server.core.version import Version
from fhir_server.errors import Forbidden
from fhir_server.interactions import circles
from fhir_server.interactions.circles import Circles
from fhir_server.interactions.context import Context
from fhir_server.interactions.context import Principal as Seat
from fhir_server.interactions.guarded_store import GuardedStore
from fhir_server.interactions.guarded_transaction import WriteRules
from fhir_server.interactions.visibility import Visibility

EMERGENCY_PURPOSES = frozenset({"BTG", "ETREAT"})
"""One of them must be among a token's purposes, or the glass stays whole."""

_MOST_KEPT = 5_000

Registered = Callable[[Principal], Principal | None]
"""A principal as they are registered now; None: not any more."""


class Authorizer:
    """One a process and store; safe from any thread.

    `defaults` say by purpose of use whether data may be used where no consent decides:
    "permit", or they may not. `registered` says of whom a Subscription is for what they may
    now, None if they are not here any more; without it they are as they were.
    """

    registered: Registered | None

    def __init__(
        self, context: Context, defaults: Mapping[str, str], registered: Registered | None = None
    ) -> None:
        self.registered = registered
        if context.outbox is None:
            raise ValueError("access rules follow the commit order, and there is none")
        self._circles = Circles(
            context.outbox,
            context.parameters,
            context.index,
            context.now,
            context.time_zone,
            {purpose: said == "permit" for purpose, said in defaults.items()},
        )
        self._context = context
        self._outbox = context.outbox
        self._reaches: dict[Principal, tuple[dict[str, Circle], Reach]] = {}
        self._parameters = context.parameters
        self._lock = Lock()

    async def authorize(
        self, ctx: Context, principal: Principal, glass: BrokenGlass | None = None
    ) -> Context:
        """`ctx` as `principal` may use it.

        Raises:
            Forbidden: the glass is not theirs to break.
            StoreUnavailable: what decides about access cannot be read: nothing is shown.
        """
        if glass is not None:
            _check_glass(principal)
        if circles.needs_drawing(principal):
            reach = await asyncio.to_thread(self.reach, ctx, principal, glass)
        else:
            reach = self.reach(ctx, principal, glass)
        seat = Seat("\n".join((principal.kind, *subscriber.tag(principal))))
        given = replace(ctx, principal=seat, reach=reach, glass=glass)
        if reach.sees_everything:
            return given
        rules = WriteRules(ctx.parameters, ctx.index)
        visibility = Visibility(self._outbox, ctx.parameters, ctx.index)
        store = GuardedStore(ctx.store, reach, visibility, rules, ctx.new_id)
        return replace(given, store=store, new_id=store.new_id)

    def reach(self, ctx: Context, principal: Principal, glass: BrokenGlass | None = None) -> Reach:
        """What `principal` may do now. It may wait for the store."""
        drawn: dict[str, Circle] = {
            context: self._circle(principal, context, glass)
            for context in {scope.context for scope in principal.scopes}
        }
        name = replace(principal, token_id="")
        with self._lock:
            if self._parameters is not ctx.parameters:
                # Parameters were added: a scope may name them.
                self._parameters = ctx.parameters
                self._reaches.clear()
            known = self._reaches.get(name)
            if known is not None and _are_same(known[0], drawn):
                return known[1]
        knowledge = Knowledge(ctx.parameters, ctx.compartments)
        reach = Reach(principal, drawn, knowledge, _reader(ctx))
        with self._lock:
            if len(self._reaches) >= _MOST_KEPT:
                self._reaches.clear()
            self._reaches[name] = (drawn, reach)
        return reach

    def visible(self, subscription: Version, versions: Sequence[Version]) -> tuple[Version, ...]:
        """Those of `versions` that may be told to whom a Subscription is for, at this moment.

        Blocking. One that was made without access rules is told everything.

        Raises:
            StoreUnavailable: it cannot be told.
        """
        asked = _subscriber(subscription.body)
        if asked is None:
            return tuple(versions)
        principal = asked if self.registered is None else self.registered(asked)
        if principal is None:
            return ()
        ctx = self._context
        reach = self.reach(ctx, principal)
        if reach.sees_everything:
            return tuple(versions)
        return Visibility(self._outbox, ctx.parameters, ctx.index).visible(reach, "r", versions)

    def is_orphaned(self, subscription: Version) -> bool:
        """Whether whom a Subscription is for is not here any more.

        Raises:
            StoreUnavailable: it cannot be told.
        """
        if self.registered is None:
            return False
        asked = _subscriber(subscription.body)
        return asked is not None and self.registered(asked) is None

    def _circle(self, principal: Principal, context: str, glass: BrokenGlass | None) -> Circle:
        if glass is not None and context == "user":
            return Circle(frozenset((glass.patient.resource_id,)))
        return self._circles.of_context(principal, context)


# The same few are asked about with every event, and every second.
@lru_cache(maxsize=10_000)
def _subscriber(body: bytes | None) -> Principal | None:
    """Whose a Subscription is; None where it was made without access rules."""
    if body is None or subscriber.EXTENSION.encode() not in body:
        return None
    return subscriber.read(resource_json.parse_resource(body))


def _check_glass(principal: Principal) -> None:
    if principal.kind != "user" or EMERGENCY_PURPOSES.isdisjoint(principal.purposes):
        raise Forbidden("this account may not ask for records in an emergency")


def _are_same(one: Mapping[str, Circle], other: Mapping[str, Circle]) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def _reader(ctx: Context) -> Callable[[str, Params], Criteria]:
    def read(resource_type: str, params: Params) -> Criteria:
        return parse_criteria(
            resource_type,
            params,
            ctx.parameters,
            base_url="",
            time_zone=ctx.time_zone,
            now=ctx.now(),
            terminology=ctx.terminology,
        )

    return read
