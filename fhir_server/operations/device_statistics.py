"""$device-statistics: how much was measured by devices, for whoever made them.

Numbers of a month, of all devices within reach or of one type. They are rounded, and told
where enough patients have part in them that none can be made out; a shorter time than a month,
or a choice of patients, cannot be asked for, so that two answers held against each other tell
little.
"""

import re

from fhir_server.core import resource_json
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parameter import SearchParameter
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import AllOf, Chain, Criterion, Has, Query, Total
from fhir_server.errors import Forbidden, InvalidSearch
from fhir_server.interactions.context import Context
from fhir_server.interactions.guarded_store import GuardedStore
from fhir_server.interactions.operation import Invocation

FEWEST_PATIENTS = 5
"""With fewer nothing is told of what they measured."""

_MONTH = re.compile(r"[0-9]{4}-(?:0[1-9]|1[0-2])", re.ASCII)


async def device_statistics(ctx: Context, call: Invocation) -> bytes:
    """A Parameters: `devices`, and of the `month` the `patients` and `observations`.

    Raises:
        Forbidden: no scope of the token is about devices.
        InvalidRequest: an input is missing or means nothing.
        TooCostly: it would have to look at too much.
    """
    if ctx.reach is not None and not ctx.reach.grants("s", "Device"):
        raise Forbidden("no scope of the token lets it search Device")
    call.inputs.check_known("month", "type")
    month = _month(call.inputs)
    of_type = () if (text := call.inputs.text("type")) is None else (("type", text),)
    devices = (*(ctx.reach.criteria("s", "Device") if ctx.reach else ()), *_read(ctx, of_type))
    told = [_number("devices", await _count(ctx, Query("Device", devices)))]
    measured: tuple[Criterion, ...] = (
        Chain(_parameter(ctx, "device"), "Device", AllOf(devices)),
        *_read(ctx, (("date", month),), "Observation"),
    )
    having = Has(_parameter(ctx, "patient"), AllOf(measured))
    patients = await _count(ctx, Query("Patient", (having,)))
    if patients >= FEWEST_PATIENTS:
        observations = await _count(ctx, Query("Observation", measured))
        told += (
            _number("patients", _round(patients)),
            _number("observations", _round(observations)),
        )
    return resource_json.format({"resourceType": "Parameters", "parameter": told})


def _month(inputs: Inputs) -> str:
    text = inputs.text("month")
    if text is None:
        raise fault("is missing", "month", code="required")
    if _MONTH.fullmatch(text) is None:
        raise fault("a month, as 2024-05", "month")
    return text


def _read(ctx: Context, params: Params, resource_type: str = "Device") -> tuple[Criterion, ...]:
    if not params:
        return ()
    try:
        return parse_criteria(
            resource_type,
            params,
            ctx.parameters,
            base_url=ctx.base_url,
            time_zone=ctx.time_zone,
            now=ctx.now(),
        )
    except InvalidSearch:
        raise fault("a code, as system|code", "type") from None


async def _count(ctx: Context, query: Query) -> int:
    store = ctx.store
    asked = query._replace(count=0, total=Total.ACCURATE)
    page = await (store.count(asked) if isinstance(store, GuardedStore) else store.search(asked))
    return page.total or 0


def _parameter(ctx: Context, code: str) -> SearchParameter:
    found = ctx.parameters.get("Observation", code)
    assert found is not None
    return found


def _round(count: int) -> int:
    # Of all devices less those of one type: a difference of few must not show.
    return count - count % FEWEST_PATIENTS


def _number(name: str, value: int) -> Resource:
    return {"name": name, "valueInteger": value}
