"""Searching AuditEvents: the trail's and those that are stored as resources, newest first.

What becomes of deliveries is stored as AuditEvents of their own, behind the receipts; a
search finds both. The trail is walked by patient and time; what else is asked for is
compared, event by event, as `core/search/match.py` says.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from fhir_server.core.resource_json import Resource
from fhir_server.core.search.entry import IndexEntries
from fhir_server.core.search.match import Indexed, matches
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.search.query import Cursor, Query, SortKey, Total
from fhir_server.core.security import audit_event
from fhir_server.core.security.audit_bounds import Bounds, bounds_of
from fhir_server.core.security.audit_chain import ChainedText
from fhir_server.core.version import Version
from fhir_server.errors import InvalidSearch, TooCostly
from fhir_server.operations.audit_links import AuditLinks
from fhir_server.store.protocol import Page, Store
from fhir_server.store.trail import Trail, TrailQuery

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Sheets that are read together: few are enough for a page, unless most of them do not match.
_FIRST, _MOST_AT_ONCE = 4, 128
_MOST_LOOKED_AT = 20_000
_MARK = "trail"
_BY_TIME = ("date", "_lastUpdated")


Index = Callable[[Resource], IndexEntries]


class _Place(NamedTuple):
    """Where a page ends: an event of the trail, and a place among the stored ones."""

    sequence: int = 0
    number: int = 0
    stored: Cursor | None = None


class _Found(NamedTuple):
    version: Version
    place: _Place


class AuditSearch:
    """Answers queries of AuditEvents; `find_index` gives what they are indexed by just now."""

    def __init__(
        self, store: Store, parameters: SearchParameters, find_index: Callable[[], Index]
    ) -> None:
        self._store = store
        self._find_index = find_index
        updated = parameters.get("AuditEvent", "_lastUpdated")
        own_id = parameters.get("AuditEvent", "_id")
        if updated is None or own_id is None:
            raise LookupError("R4's search parameters are not known")
        self._updated, self._own_id = updated, own_id

    async def search(self, query: Query) -> Page:
        """One page. There is no way back but to ask anew.

        Raises:
            InvalidSearch: an order that is not of time.
            TooCostly: too much of the trail would have to be looked at, or a chain leads to
                too many resources.
        """
        if query.before is not None:
            raise InvalidSearch("pages of AuditEvents are read forward")
        is_descending = _is_descending(query)
        after = _read_place(query.after)
        count = max(query.count, 0)
        stored = await self._store.search(
            query._replace(sort=(SortKey(self._updated, is_descending),), after=after.stored)
        )
        index = self._find_index()
        settled = await AuditLinks(self._store, query, index, self._own_id).settled()
        walk = _Walk(self._store.trail, settled, index, is_oldest_first=not is_descending)
        own = await walk.page(after, count + 1)
        total = stored.total
        if query.total is not Total.NONE and total is not None:
            total += await walk.count()
        places = (
            _Found(version, _Place(stored=cursor))
            for version, cursor in zip(stored.versions, stored.cursors, strict=True)
        )
        found = sorted(
            [*own, *places], key=lambda each: each.version.last_updated, reverse=is_descending
        )
        shown = found[:count]
        is_more = len(found) > count or stored.next is not None
        following = _follow(after, shown) if is_more and shown else None
        return Page(tuple(each.version for each in shown), stored.as_of, following, total, None, ())


def is_asked_alone(query: Query) -> bool:
    """Whether a search is of AuditEvents, and not of several types or of what belongs to some.

    The trail has an order of its own, in which the places of other types mean nothing.
    """
    if query.after is not None:
        return query.after.values[:1] == (_MARK,)
    return query.as_of is None


async def find_event(trail: Trail, sequence: int, number: int) -> Version | None:
    """The AuditEvent at a place of the trail."""
    sheet = await trail.find(sequence)
    if sheet is None:
        return None
    return audit_event.find(sequence, number, _time_of(sheet), sheet.text)


class _Walk:
    """The events of the trail that a query asks for, in order."""

    def __init__(
        self,
        trail: Trail,
        query: Query,
        index: Index,
        *,
        is_oldest_first: bool,
    ) -> None:
        self._trail = trail
        self._query = query
        self._index = index
        own = dict(query.restriction.by_type).get(query.resource_type, ())
        self._bounds: Bounds = bounds_of((*query.criteria, *own))
        self._is_oldest_first = is_oldest_first
        self._looked_at = 0

    async def page(self, after: _Place, count: int) -> list[_Found]:
        found: list[_Found] = []
        async for each in self._events(after, count):
            found.append(each)
            if len(found) == count:
                break
        return found

    async def count(self) -> int:
        return len([None async for _ in self._events(_Place(), None)])

    async def _events(self, after: _Place, most: int | None) -> AsyncIterator[_Found]:
        """What is asked for; it may end behind `most`."""
        if self._bounds.ids is not None:
            for each in self._matching(await self._named(self._bounds.ids), after, most):
                yield each
            return
        beyond = after.sequence or None
        if after.sequence and (sheet := await self._trail.find(after.sequence)):
            for each in self._matching([sheet], after, most):
                yield each
        at_once = _FIRST
        while True:
            sheets = await self._trail.search(
                TrailQuery(
                    self._bounds.patient,
                    self._bounds.start,
                    self._bounds.end,
                    beyond,
                    self._is_oldest_first,
                    at_once,
                )
            )
            for each in await asyncio.to_thread(self._matching, sheets, after, most):
                yield each
            if len(sheets) < at_once:
                return
            beyond = sheets[-1].sequence
            at_once = min(2 * at_once, _MOST_AT_ONCE)

    async def _named(self, ids: Iterable[str]) -> list[ChainedText]:
        places = {place[0] for each in ids if (place := audit_event.parse_id(each))}
        ordered = sorted(places, reverse=not self._is_oldest_first)
        found = [await self._trail.find(sequence) for sequence in ordered]
        return [sheet for sheet in found if sheet is not None]

    def _matching(
        self, sheets: Iterable[ChainedText], after: _Place, most: int | None
    ) -> list[_Found]:
        return list(itertools.islice(self._look(sheets, after), most))

    def _look(self, sheets: Iterable[ChainedText], after: _Place) -> Iterator[_Found]:
        query = self._query
        for sheet in sheets:
            # A sheet holds what many did: those of others are not looked at.
            shown = audit_event.events(
                sheet.sequence,
                _time_of(sheet),
                sheet.text,
                patient=self._bounds.patient,
                is_newest_first=not self._is_oldest_first,
            )
            for number, version in shown:
                place = _Place(sheet.sequence, number)
                if not _is_behind(place, after, is_ascending=self._is_oldest_first):
                    continue
                if self._looked_at >= _MOST_LOOKED_AT:
                    raise TooCostly("ask for a patient's AuditEvents, or for less time (date)")
                self._looked_at += 1
                entries = self._index(version.resource())
                if matches(entries, version, query.criteria, _refuse, query.restriction):
                    yield _Found(version, place)


def _time_of(sheet: ChainedText) -> datetime:
    return _EPOCH + timedelta(milliseconds=sheet.at)


def _refuse(_resource_type: str) -> Iterable[Indexed]:
    raise LookupError("what other resources say was to be settled before")


def _is_behind(place: _Place, after: _Place, *, is_ascending: bool) -> bool:
    if not after.sequence:
        return True
    if place.sequence == after.sequence:
        return place.number > after.number if is_ascending else place.number < after.number
    return (place.sequence > after.sequence) is is_ascending


def _is_descending(query: Query) -> bool:
    if not query.sort:
        return True
    if query.sort[0].parameter.code not in _BY_TIME:
        raise InvalidSearch("AuditEvents are sorted by date")
    return query.sort[0].descending


def _follow(after: _Place, shown: list[_Found]) -> Cursor:
    """Behind all that is shown, of either kind."""
    place = after
    for _, its in shown:
        if its.stored is None:
            place = place._replace(sequence=its.sequence, number=its.number)
        else:
            place = place._replace(stored=its.stored)
    stored = place.stored
    values = () if stored is None else (stored.sequence, *stored.values)
    # The sequence of a cursor tells that there is one; the places are its values.
    return Cursor((_MARK, place.sequence, place.number, *values), 1)


def _read_place(cursor: Cursor | None) -> _Place:
    if cursor is None:
        return _Place()
    _, sequence, number, *stored = cursor.values
    if not isinstance(sequence, int) or not isinstance(number, int):
        raise InvalidSearch("the page link is of another search")
    if not stored:
        return _Place(sequence, number)
    if not isinstance(stored[0], int):
        raise InvalidSearch("the page link is of another search")
    return _Place(sequence, number, Cursor(tuple(stored[1:]), stored[0]))
