"""The quarantine over HTTP: what waits and why, and trying it again."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from fhir_server.core.mapping.catalog import MappingCatalog
from fhir_server.core.mapping.reading import Verdict
from fhir_server.core.monitoring import quarantine
from fhir_server.core.resource_json import Resource
from fhir_server.core.search.query import Cursor
from fhir_server.core.version import Version, format_instant
from fhir_server.errors import InvalidRequest, InvalidResource
from fhir_server.interactions.context import Context
from fhir_server.operations.assignments import Assignments
from fhir_server.operations.reprocess_quarantine import (
    Reprocessed,
    Wanted,
    WorkPage,
    find_task,
    list_quarantine,
    reprocess,
)
from fhir_server.rest.asking import json_response, parameters
from fhir_server.rest.authorizing import authorized, check_quarantine
from fhir_server.rest.metrics import count_reprocessed
from fhir_server.rest.request import decode_headers

_REPROCESSED_AT_ONCE = 25
_FILTERS = Wanted._fields


async def send_list(request: Request) -> Response:
    ctx = await _context(request, is_change=False)
    page = await _work_page(ctx, dict(parameters(request, *_FILTERS, "_count", "page")))
    answer: dict[str, Any] = {"quarantined": [_waiting(version) for version in page.tasks]}
    if page.after is not None:
        answer["next"] = _format_page(page)
    return json_response(answer)


async def _context(request: Request, *, is_change: bool) -> Context:
    """The server's own, if whoever asks may see what waits: the readings are anybody's."""
    ctx: Context = request.app.state.context
    headers = decode_headers(request.scope)
    given = await authorized(request.app.state, ctx, request.scope, headers)
    check_quarantine(given, is_change=is_change)
    return ctx


class Reprocessing:
    """The endpoint that tries again; `assignments` are the application's."""

    def __init__(self, assignments: Assignments) -> None:
        self._assignments = assignments

    async def send(self, request: Request) -> Response:
        """Decide quarantined readings again: those named, or a page of the work list."""
        ctx = await _context(request, is_change=True)
        asked = parameters(request, "quarantine", *_FILTERS, "_count", "page")
        references = [value for name, value in asked if name == "quarantine"]
        page = WorkPage((), 0, None)
        if references:
            tasks = tuple([await find_task(ctx, r.removeprefix("Task/")) for r in references])
        else:
            page = await _work_page(ctx, dict(asked))
            tasks = page.tasks
        results: list[Reprocessed] = []
        for start in range(0, len(tasks), _REPROCESSED_AT_ONCE):
            some = tasks[start : start + _REPROCESSED_AT_ONCE]
            results += await self._reprocess_all(ctx, request.app.state.mappings, some)
        answer: dict[str, Any] = {str(verdict): 0 for verdict in Verdict}
        for result in results:
            if result.verdict is not None:
                answer[str(result.verdict)] += 1
                count_reprocessed(result.verdict)
        answer["results"] = [_reprocessed(result) for result in results]
        if page.after is not None:
            answer["next"] = _format_page(page)
        return json_response(answer)

    async def _reprocess_all(
        self, ctx: Context, mappings: MappingCatalog, tasks: Sequence[Version]
    ) -> list[Reprocessed]:
        async def one(task: Version) -> Reprocessed:
            try:
                return await reprocess(ctx, self._assignments, mappings, task)
            except InvalidResource as error:
                # One Task that somebody altered never stops the others.
                return Reprocessed(
                    task.key, Verdict.QUARANTINED, reason="task-altered", detail=str(error)
                )

        done = await asyncio.gather(*(one(task) for task in tasks), return_exceptions=True)
        for result in done:
            if isinstance(result, BaseException):
                raise result
        return [result for result in done if not isinstance(result, BaseException)]


def _waiting(version: Version) -> Resource:
    task = version.resource()
    reason, detail = quarantine.reason_of(task)
    line: Resource = {
        "quarantine": str(version.key),
        "reason": reason,
        "detail": detail,
        "device": _device(task),
        "received": task.get("authoredOn", ""),
        "changed": format_instant(version.last_updated),
    }
    try:
        held = quarantine.parse_held_back(task)
    except ValueError:
        return line
    line["mapping"] = held.mapping
    line["reading"] = held.ordinal
    return line


def _device(task: Resource) -> str:
    """The device that the payload named, as `?device=` takes it; "" if it named none."""
    identifier = (task.get("requester") or {}).get("identifier") or {}
    value: str = identifier.get("value", "")
    return f"{identifier['system']}|{value}" if "system" in identifier else value


def _reprocessed(result: Reprocessed) -> Resource:
    line: Resource = {
        "quarantine": str(result.task),
        "verdict": "unchanged" if result.verdict is None else str(result.verdict),
    }
    if result.resources:
        line["resources"] = list(result.resources)
    if result.reason:
        line["reason"] = result.reason
    if result.detail:
        line["detail"] = result.detail
    return line


async def _work_page(ctx: Context, asked: dict[str, str]) -> WorkPage:
    text = asked.get("_count", str(ctx.limits.default_page_size))
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) == 0:
        raise InvalidRequest("_count is a number above 0")
    count = min(int(text), ctx.limits.page_size)
    after, as_of = None, None
    if "page" in asked:
        after, as_of = _parse_page(asked["page"])
    wanted = Wanted(*(asked.get(name, "") for name in _FILTERS))
    return await list_quarantine(ctx, count, wanted, after, as_of)


def _format_page(page: WorkPage) -> str:
    """Where the next page begins, free of anything a reading said."""
    assert page.after is not None
    state = msgspec.json.encode((page.as_of, page.after.sequence, page.after.values))
    return base64.urlsafe_b64encode(state).decode("ascii").rstrip("=")


def _parse_page(token: str) -> tuple[Cursor, int]:
    try:
        state = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        as_of, sequence, values = msgspec.json.decode(
            state, type=tuple[int, int, tuple[int | str | None, ...]]
        )
    except (ValueError, msgspec.MsgspecError):
        raise InvalidRequest("page is the next of an answer before, unaltered") from None
    return Cursor(values, sequence), as_of
