"""$get-ws-binding-token: by what a websocket's client shows which Subscriptions it may hear.

https://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition-backport-subscription-get-ws-binding-token.html
"""

from datetime import timedelta

from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.operation_input import fault
from fhir_server.core.subscription import ChannelType
from fhir_server.core.version import format_instant
from fhir_server.core.websocket_binding import MOST_SUBSCRIPTIONS, seal, websocket_url
from fhir_server.errors import InvalidRequest
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import read

LIFE = timedelta(minutes=30)


async def get_ws_binding_token(ctx: Context, call: Invocation) -> bytes:
    """A token for one Subscription, or for those of `id`, with the address to bind it at.

    It has to be used before it expires; what is bound stays.

    Raises:
        NotFound, Gone: there is no such Subscription.
        InvalidRequest: one has another channel, or none is named.
    """
    call.inputs.check_known("id")
    ids = call.inputs.texts("id") if call.resource_id is None else (call.resource_id,)
    ids = tuple(dict.fromkeys(ids))
    if not 0 < len(ids) <= MOST_SUBSCRIPTIONS:
        raise fault(f"expected 1 to {MOST_SUBSCRIPTIONS} Subscriptions", "id", code="required")
    for each in ids:
        found = await read(ctx, ResourceKey("Subscription", each))
        if found.resource()["channel"]["type"] != ChannelType.WEBSOCKET:
            raise InvalidRequest(f"Subscription/{each} has another channel than websocket")
    until = ctx.now() + LIFE
    url = websocket_url(ctx.base_url)
    parameters = [
        {"name": "token", "valueString": seal(ids, until, ctx.page_key)},
        {"name": "expiration", "valueDateTime": format_instant(until)},
        *({"name": "subscription", "valueString": f"Subscription/{each}"} for each in ids),
        {"name": "websocket-url", "valueUrl": url},
    ]
    return resource_json.format({"resourceType": "Parameters", "parameter": parameters})
