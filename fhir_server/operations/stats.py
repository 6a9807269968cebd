"""$stats: statistics of a subject's measurements, an Observation for each code.

https://hl7.org/fhir/R4/observation-operation-stats.html
"""

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from fhir_server.core import reference, resource_json, statistics
from fhir_server.core.measurement import Measurements, measure
from fhir_server.core.monitoring.views import is_derived
from fhir_server.core.operation_input import Inputs, fault
from fhir_server.core.query_string import Params
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.parse import parse_criteria
from fhir_server.core.search.query import Clause, Criterion, Query, SortKey, TokenValue
from fhir_server.core.statistics import COUNTS, STATISTICS
from fhir_server.core.version import Version, format_instant
from fhir_server.errors import InvalidSearch
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.operations.all_found import find_all

_TYPE = "Observation"
_MOST = 50_000
_MOST_CODES = 20
_MOST_SOURCES = 1_000
_INPUTS = (
    "subject", "code", "system", "coding", "duration", "period", "statistic", "include", "limit",
)  # fmt: skip
_HOURS = re.compile(r"[0-9]{1,7}(?:\.[0-9]{1,6})?", re.ASCII)
_ONE = {"system": "http://unitsofmeasure.org", "code": "1"}
_ABSENT = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
            "code": "unknown",
        }
    ]
}


class _Asked(NamedTuple):
    """What is asked for; `period` has what was given of `start` and `end`."""

    subject: str
    codes: tuple[TokenValue, ...]
    period: dict[str, str]
    statistics: tuple[str, ...]
    is_include: bool
    limit: int


async def stats(ctx: Context, call: Invocation) -> bytes:
    """A Parameters: a `statistics` for each code, and each `source` where it was asked for.

    Raises:
        InvalidRequest: an input is missing or means nothing, or the units of the
            measurements do not convert into each other.
        TooCostly: there are more measurements than one request may look at.
    """
    asked = _parse(ctx, call.inputs)
    parameters: list[Resource] = []
    sources: dict[str, Resource] = {}
    for token in asked.codes:
        versions = await _find(ctx, asked, token)
        found, resources = await asyncio.to_thread(_measure, versions, token)
        parameters.append({"name": "statistics", "resource": _tell(asked, token, found, resources)})
        if asked.is_include:
            sources |= {resource["id"]: resource for resource in resources}
    if len(sources) > asked.limit:
        sources = dict(list(sources.items())[: asked.limit])
    parameters += ({"name": "source", "resource": resource} for resource in sources.values())
    return resource_json.format({"resourceType": "Parameters", "parameter": parameters})


def _parse(ctx: Context, inputs: Inputs) -> _Asked:
    inputs.check_known(*_INPUTS)
    return _Asked(
        _parse_subject(ctx, inputs),
        _parse_codes(inputs),
        _parse_period(ctx, inputs),
        _parse_statistics(inputs),
        _parse_boolean(inputs, "include"),
        _parse_limit(inputs),
    )


def _parse_subject(ctx: Context, inputs: Inputs) -> str:
    text = inputs.text("subject")
    if not text:
        raise fault("is missing", "subject", code="required")
    found = reference.parse(reference.within(text, ctx.base_url))
    if found is None or not found.is_local:
        raise fault("a subject of this server, as Patient/id", "subject")
    return f"{found.resource_type}/{found.resource_id}"


def _parse_codes(inputs: Inputs) -> tuple[TokenValue, ...]:
    system = inputs.text("system")
    found = [TokenValue(system, code) for text in inputs.texts("code") for code in _split(text)]
    for value in inputs.values("coding"):
        if isinstance(value, dict):
            if not value.get("code"):
                raise fault("a Coding without a code", "coding", code="required")
            found.append(TokenValue(value.get("system") or "", value["code"]))
        else:
            own_system, bar, code = str(value).rpartition("|")
            found.append(TokenValue(own_system if bar else None, code))
    codes = tuple(dict.fromkeys(token for token in found if token.code))
    if not 1 <= len(codes) <= _MOST_CODES:
        raise fault(f"from 1 to {_MOST_CODES} codes are expected", "code", code="required")
    return codes


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parse_period(ctx: Context, inputs: Inputs) -> dict[str, str]:
    hours = inputs.text("duration")
    if hours is None:
        periods = inputs.values("period")
        if len(periods) > 1:
            raise fault("is given more than once", "period")
        if not periods:
            return {}
        if isinstance(periods[0], dict):
            return {name: periods[0][name] for name in ("start", "end") if periods[0].get(name)}
        start, slash, end = str(periods[0]).partition("/")
        if not slash:
            raise fault("a Period in a Parameters, or start/end", "period")
        return {name: text for name, text in (("start", start), ("end", end)) if text}
    if inputs.values("period"):
        raise fault("a duration or a period, not both", "duration")
    if _HOURS.fullmatch(hours) is None:
        raise fault("a number of hours up to now", "duration")
    now = ctx.now()
    try:
        start_time = now - timedelta(hours=float(hours))
    except OverflowError:
        raise fault("a number of hours up to now", "duration") from None
    return {"start": format_instant(start_time), "end": format_instant(now)}


def _parse_statistics(inputs: Inputs) -> tuple[str, ...]:
    asked = [
        statistics.ALIASES.get(code, code)
        for text in inputs.texts("statistic")
        for code in _split(text)
    ]
    for code in asked:
        if code not in STATISTICS and code not in COUNTS:
            known = ", ".join((*STATISTICS, *COUNTS))
            raise fault(
                f"one is not calculated here; known: {known}", "statistic", code="code-invalid"
            )
    if not asked:
        raise fault("is missing", "statistic", code="required")
    return tuple(dict.fromkeys(asked))


def _parse_boolean(inputs: Inputs, name: str) -> bool:
    text = inputs.text(name)
    if text not in (None, "true", "false"):
        raise fault("true or false", name)
    return text == "true"


def _parse_limit(inputs: Inputs) -> int:
    text = inputs.text("limit")
    if text is None:
        return _MOST_SOURCES
    if not text.isascii() or not text.isdigit() or int(text[:9]) == 0:
        raise fault("a whole number from 1", "limit")
    return min(int(text[:9]), _MOST_SOURCES)


def _criteria(ctx: Context, asked: _Asked, token: TokenValue) -> tuple[Criterion, ...]:
    params: list[tuple[str, str]] = [("subject", asked.subject), ("status:not", "entered-in-error")]
    if "start" in asked.period:
        params.append(("date", f"ge{asked.period['start']}"))
    if "end" in asked.period:
        params.append(("date", f"le{asked.period['end']}"))
    code = ctx.parameters.get(_TYPE, "combo-code")
    assert code is not None
    return (*_read(ctx, tuple(params)), Clause(code, "", (token,)))


def _read(ctx: Context, params: Params) -> tuple[Criterion, ...]:
    return parse_criteria(
        _TYPE,
        params,
        ctx.parameters,
        base_url=ctx.base_url,
        time_zone=ctx.time_zone,
        now=ctx.now(),
    )


async def _find(ctx: Context, asked: _Asked, token: TokenValue) -> list[Version]:
    """Newest first: the unit of the newest measurement is the unit of the answer."""
    try:
        criteria = _criteria(ctx, asked, token)
    except InvalidSearch as error:
        raise fault(str(error), "subject or period") from None
    date = ctx.parameters.get(_TYPE, "date")
    assert date is not None
    query = Query(
        _TYPE,
        criteria,
        sort=(SortKey(date, descending=True),),
        restriction=ctx.principal.restriction,
    )
    too_many = f"more than {_MOST} Observations: ask about a shorter period"
    return await find_all(ctx, query, _MOST, too_many)


def _measure(versions: Sequence[Version], token: TokenValue) -> tuple[Measurements, list[Resource]]:
    # What was computed from measurements is none.
    resources = [r for version in versions if not is_derived(r := version.resource())]
    return measure(resources, token.system, token.code or ""), resources


def _tell(
    asked: _Asked, token: TokenValue, found: Measurements, resources: Sequence[Resource]
) -> Resource:
    """The Observation that tells the statistics of one code, whose `resources` it is about."""
    coding = {"system": token.system, "code": token.code}
    concept = found.concept or {"coding": [{k: v for k, v in coding.items() if v}]}
    told: Resource = {
        "resourceType": _TYPE,
        "status": "final",
        **_category(resources),
        "code": concept,
        "subject": {"reference": asked.subject},
    }
    if period := asked.period or _measured_in(resources):
        told["effectivePeriod"] = period
    ordered = sorted(found.values)
    told["component"] = [_component(code, ordered, found) for code in asked.statistics]
    return told


def _category(resources: Sequence[Resource]) -> Resource:
    """The categories that all of `resources` have: of vital signs, statistics are some too."""
    first, *others = [each.get("category", ()) for each in resources] or [()]
    shared = [each for each in first if all(each in other for other in others)]
    return {"category": shared} if shared else {}


def _measured_in(resources: Sequence[Resource]) -> dict[str, str]:
    """From the first of `resources` to the last; the newest comes first."""
    bounds = {}
    for name, resource in (("start", resources[-1:]), ("end", resources[:1])):
        for each in resource:
            period = each.get("effectivePeriod", {})
            moment = each.get("effectiveDateTime") or each.get("effectiveInstant")
            if text := moment or period.get(name) or period.get("start"):
                bounds[name] = text
    return bounds


def _component(code: str, ordered: Sequence[Decimal], found: Measurements) -> Resource:
    if code in COUNTS:
        number = len(ordered) if code == "count" else found.total
        return {"code": _concept(code, COUNTS[code]), "valueQuantity": {"value": number, **_ONE}}
    statistic = STATISTICS[code]
    component: dict[str, Any] = {"code": _concept(code, statistic.display)}
    value = statistic.calculate(ordered) if ordered else None
    if value is None or found.unit is None:
        component["dataAbsentReason"] = _ABSENT
        return component
    unit = found.unit if statistic.power == 1 else found.unit.squared()
    component["valueQuantity"] = unit.quantity(statistics.shown(value))
    return component


def _concept(code: str, display: str) -> Resource:
    return {"coding": [{"system": statistics.SYSTEM, "code": code, "display": display}]}
