"""$status and $events of a Subscription: how it stands, and its events once more.

Both are told from the ledger, so they count for all processes together and a restart
changes nothing. https://hl7.org/fhir/uv/subscriptions-backport/components.html
"""

import asyncio
from collections.abc import Callable, Sequence

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.notification import Event, Kind, Standing, notification, status_parameters
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.search.query import Query
from fhir_server.core.subscription import Content, Status, Subscription
from fhir_server.core.version import Version
from fhir_server.errors import InvalidResource, TooCostly, Unsupported
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read
from fhir_server.interactions.visibility import Visibility
from fhir_server.store.protocol import DeliveryState, Outbox

MOST_EVENTS = 500
"""What one $events tells; the client asks again from behind the last."""

_MOST_SUBSCRIPTIONS = 1_000
_LEVELS = (Content.EMPTY, Content.ID_ONLY, Content.FULL_RESOURCE)


async def status(ctx: Context, call: Invocation) -> bytes:
    """How a Subscription stands; at the type's level all of them, or those asked for.

    Raises:
        NotFound, Gone: there is no such Subscription.
        TooCostly: there are too many to tell of at once.
    """
    call.inputs.check_known("id", "status")
    outbox = _outbox(ctx)
    if call.resource_id is not None:
        versions: Sequence[Version] = (await read(ctx, _key(call.resource_id)),)
    else:
        versions = await _all(ctx, call.inputs)
    standings = await asyncio.to_thread(
        lambda: [(_standing(ctx, outbox, each), each) for each in versions]
    )
    entries = []
    for standing, _version in standings:
        parameters = status_parameters(Kind.QUERY_STATUS, standing, (), Content.ID_ONLY)
        entries.append(
            {
                "fullUrl": f"urn:uuid:{parameters['id']}",
                "resource": parameters,
                "search": {"mode": "match"},
            }
        )
    bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    return resource_json.format({**bundle, "entry": entries} if entries else bundle)


async def events(ctx: Context, call: Invocation) -> bytes:
    """The events from `eventsSinceNumber` to `eventsUntilNumber`, both included.

    `content` may ask for less than the Subscription tells, never for more. No more than
    `MOST_EVENTS` are told.

    Raises:
        NotFound, Gone: there is no such Subscription.
        InvalidRequest: an input is not what it should be.
    """
    call.inputs.check_known("eventsSinceNumber", "eventsUntilNumber", "content")
    first = _number(call.inputs, "eventsSinceNumber") or 1
    last = _number(call.inputs, "eventsUntilNumber")
    asked = call.inputs.text("content")
    if asked is not None and asked not in list(Content):
        raise fault("expected empty, id-only or full-resource", "content")
    outbox = _outbox(ctx)
    version = await read(ctx, _key(call.resource_id or ""))
    most = MOST_EVENTS if last is None else min(MOST_EVENTS, last - first + 1)
    content = _content(_read(ctx, version), None if asked is None else Content(asked))

    visible = _visible(ctx, outbox)

    def look() -> tuple[Standing, list[Event]]:
        found = outbox.numbered(str(version.key), first, most) if most > 0 else ()
        return _standing(ctx, outbox, version), [
            Event(first + place, told)
            for place, delivery in enumerate(found)
            if visible((told := outbox.version(delivery),))
        ]

    standing, found = await asyncio.to_thread(look)
    return resource_json.format(notification(Kind.QUERY_EVENT, standing, found, content, ctx.now()))


def _visible(ctx: Context, outbox: Outbox) -> Callable[[Sequence[Version]], Sequence[Version]]:
    """What of some versions whoever asks may see now."""
    reach = ctx.reach
    if reach is None or reach.sees_everything:
        return lambda versions: versions
    visibility = Visibility(outbox, ctx.parameters, ctx.index)
    return lambda versions: visibility.visible(reach, "r", versions)


def _content(subscription: Subscription | None, asked: Content | None) -> Content:
    if subscription is None:
        own = Content.EMPTY
    elif subscription.channel.content is not None:
        own = subscription.channel.content
    else:
        own = Content.FULL_RESOURCE if subscription.channel.media_type else Content.EMPTY
    return own if asked is None else min(own, asked, key=_LEVELS.index)


def _standing(ctx: Context, outbox: Outbox, version: Version) -> Standing:
    resource = version.resource()
    subscription = _read(ctx, version)
    error = str(resource.get("error", ""))
    sink = str(version.key)
    if not error and outbox.list(sink, (DeliveryState.PARKED, DeliveryState.REJECTED), 1, 0):
        error = "some events were not taken; ask for them by $events"
    return Standing(
        version.key,
        Status(resource["status"]),
        "" if subscription is None else subscription.topic,
        outbox.made(sink),
        error,
        ctx.base_url,
    )


def _read(ctx: Context, version: Version) -> Subscription | None:
    if ctx.subscriptions is None:
        return None
    try:
        return ctx.subscriptions.read(version)
    except InvalidResource:  # its error says so
        return None


async def _all(ctx: Context, inputs: Inputs) -> list[Version]:
    ids, statuses = set(inputs.texts("id")), set(inputs.texts("status"))
    if ids:
        if len(ids) > _MOST_SUBSCRIPTIONS:
            raise TooCostly(f"more than {_MOST_SUBSCRIPTIONS} Subscriptions")
        found = await ctx.store.read_many([_key(each) for each in sorted(ids)])
    else:
        page = await ctx.store.search(
            Query(
                "Subscription",
                count=_MOST_SUBSCRIPTIONS,
                restriction=ctx.principal.restriction,
            )
        )
        if page.next is not None:
            raise TooCostly(f"more than {_MOST_SUBSCRIPTIONS} Subscriptions: ask for some by id")
        found = page.versions
    return [each for each in found if not statuses or each.resource()["status"] in statuses]


def _number(inputs: Inputs, name: str) -> int | None:
    text = inputs.text(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 15:
        raise fault("expected the number of an event", name)
    return int(text)


def _outbox(ctx: Context) -> Outbox:
    if ctx.outbox is None:
        raise Unsupported("this server delivers nothing")
    return ctx.outbox


def _key(resource_id: str) -> ResourceKey:
    return ResourceKey("Subscription", resource_id)
