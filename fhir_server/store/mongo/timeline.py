"""Timelines: the searches that the system lives on, walked along an index in their order.

Observations of a patient (and a code), or of a device, by date: the index is in the order
of the page, so twenty of a million cost as much as twenty of a thousand.
"""

from collections.abc import Sequence
from typing import NamedTuple

from fhir_server.core.search.parameter import SearchParameter, Source
from fhir_server.core.search.query import (
    Clause,
    Criterion,
    DateValue,
    Query,
    ReferenceValue,
    TokenValue,
)
from fhir_server.store.mongo import comparisons, keys
from fhir_server.store.mongo.clauses import dates_match
from fhir_server.store.mongo.criteria import Scope, matching
from fhir_server.store.mongo.rows import ANY_CODE, HOT_PATHS, VERSION_FIELDS, HotPath
from fhir_server.store.mongo.steps import Document, Filter, Find, Steps

_MOST_STARTS = 100
_EARLIEST = -(2**63)


class Timeline(NamedTuple):
    """A query that one hot path answers: whose, which codes, what else is asked."""

    path: HotPath
    ids: tuple[str, ...]
    codes: tuple[TokenValue, ...]
    rest: tuple[Criterion, ...]
    date: Filter | None
    bounds: comparisons.StartBounds | None
    direction: int

    @property
    def is_in_order(self) -> bool:
        return self.direction != 0

    def find(self, query: Query, scope: Scope) -> Steps[list[Document]]:
        """The page and one more, each with its `sort0`."""
        start = yield from self._start()
        filter_ = yield from matching(self.path.resource_type, self.rest, scope)
        if self.path.target == "Patient":
            filter_ |= scope.owned_by(self.ids)
        # The timeline finds them; the marker that finds all of a type would only compete.
        filter_["$and"] = [part for part in filter_["$and"] if part != {"x": keys.MARKER}]
        if self.date is not None:
            filter_["$and"].append(self.date)
        found: list[Document] = []
        after = query.after
        if after is None or after.values[0] is not None:
            found = yield from self._dated(query, filter_, start)
        if len(found) <= query.count and not self._needs_date():
            undated = {**filter_, **start, "hd": None}
            if after is not None and after.values[0] is None:
                behind = "$gt" if self.direction > 0 else "$lt"
                undated["$and"] = [*filter_["$and"], {"_id": {behind: after.sequence}}]
            if not undated["$and"]:
                del undated["$and"]
            found += yield Find(
                undated,
                VERSION_FIELDS,
                (("_id", self.direction),),
                query.count + 1 - len(found),
                self.path.index_name,
            )
        for document in found:
            document["sort0"] = document.get("hd")
        return found

    def narrowing(self) -> Steps[Filter]:
        """What the timeline says of a query in another order, to be found by its index."""
        start = yield from self._start()
        if self.bounds is None:
            return start
        narrow, wide = self.stretch(start)
        return narrow if wide is None else {"$or": [narrow, wide]}

    def _start(self) -> Steps[Filter]:
        start: Filter = {self.path.field: _one_or_in(self.ids)}
        if self.path.token is not None:
            start["hc"] = _one_or_in((yield from self._codes()))
        return start

    def stretch(self, start: Filter) -> tuple[Filter, Filter | None]:
        """The dates that can match: of narrow ranges, and of wide ones that begin before."""
        dates: Filter = {"$gte": _EARLIEST}
        wide: Filter | None = None
        bounds = self.bounds
        if bounds is not None and bounds.most is not None:
            dates["$lte"] = bounds.most
        if bounds is not None and bounds.least is not None:
            if not bounds.is_least_hard:
                wide = {**start, "hw": True, "hd": {**dates, "$lt": bounds.least}}
                del wide["hd"]["$gte"]
            dates["$gte"] = bounds.least
        return {**start, "hd": dates}, wide

    def _dated(self, query: Query, filter_: Filter, start: Filter) -> Steps[list[Document]]:
        conditions = list(filter_["$and"])
        narrow, wide = self.stretch(start)
        if query.after is not None:
            conditions.append(self._behind(query.after.values[0], query.after.sequence))
        whole: Filter = {**filter_, **narrow} if wide is None else dict(filter_)
        if wide is not None:
            conditions.append({"$or": [narrow, wide]})
        whole.pop("$and")
        if conditions:
            whole["$and"] = conditions
        return (
            yield Find(
                whole,
                {**VERSION_FIELDS, "hd": 1},
                (("hd", self.direction), ("_id", self.direction)),
                query.count + 1,
                self.path.index_name if wide is None else None,
            )
        )

    def _behind(self, date: int | str | None, sequence: int) -> Filter:
        if self.direction > 0:
            later: Filter = {"$or": [{"hd": {"$gt": date}}, {"_id": {"$gt": sequence}}]}
            return {"$and": [{"hd": {"$gte": date}}, later]}
        earlier: Filter = {"$or": [{"hd": {"$lt": date}}, {"_id": {"$lt": sequence}}]}
        return {"$and": [{"hd": {"$lte": date}}, earlier]}

    def _needs_date(self) -> bool:
        """Whether what has no date cannot match."""
        return self.bounds is not None

    def _codes(self) -> Steps[list[str]]:
        """The codes as the index has them; without a system, of each system there is."""
        if not self.codes:
            return [ANY_CODE]
        found: list[str] = []
        for system, code in self.codes:
            if code is None:
                continue
            if system is not None:
                found.append(keys.code(code, system))
            else:
                found += yield from self._systems_of(code)
        return list(dict.fromkeys(found))

    def _systems_of(self, code: str) -> Steps[list[str]]:
        """Hops along the index from one system to the next: there are few."""
        prefix = keys.pair(self.path.token or "", code, "")
        bounds: Filter = dict(keys.starting_with(prefix))
        found: list[str] = []
        while True:
            next_ = yield Find(
                {"y": self.path.resource_type, "x": {"$elemMatch": bounds}},
                {"x": 1, "_id": 0},
                (("y", 1),),
                1,
                "keys",
            )
            # Of a resource's several keys the least in the bounds is where the index stood.
            within = sorted(
                key
                for document in next_
                for key in document["x"]
                if key.startswith(prefix) and key > bounds.get("$gt", "")
            )
            if not within:
                return found
            found.append(within[0].split(keys.SEPARATOR, 1)[1])
            bounds.pop("$gte", None)
            bounds["$gt"] = within[0]


def plan(query: Query) -> Timeline | None:
    """The timeline that has what `query` asks for; `direction` 0 is not in its order."""
    for path in HOT_PATHS:
        if path.resource_type == query.resource_type:
            planned = _plan(query.criteria, path, _direction(query, path))
            if planned is not None:
                return planned
    return None


def _direction(query: Query, path: HotPath) -> int:
    """Which way the index is walked; 0 if it is not in the query's order."""
    if len(query.sort) != 1 or query.sort[0].parameter.sources != (Source(path.date),):
        return 0
    return -1 if query.sort[0].descending else 1


def _plan(criteria: Sequence[Criterion], path: HotPath, direction: int) -> Timeline | None:
    ids: tuple[str, ...] = ()
    codes: tuple[TokenValue, ...] = ()
    bounds: comparisons.StartBounds | None = None
    date: Filter | None = None
    rest: list[Criterion] = []
    for criterion in criteria:
        match criterion:
            case Clause(parameter, "", values):
                if not ids and (found := subjects(parameter, values, path)):
                    ids = found
                    continue
                if not codes and path.token and (tokens := _tokens(parameter, values, path)):
                    codes = tokens
                    continue
                if bounds is None and parameter.sources == (Source(path.date),):
                    bounds = _bounds(values)
                    if bounds is not None:
                        # Without its index keys: the timeline's own order is what finds it.
                        date = dates_match([path.date], values)
                        continue
        rest.append(criterion)
    if not ids or len(ids) * max(1, len(codes)) > _MOST_STARTS:
        return None
    return Timeline(path, ids, codes, tuple(rest), date, bounds, direction)


def subjects(
    parameter: SearchParameter, values: Sequence[object], path: HotPath
) -> tuple[str, ...] | None:
    """The ids that a clause names, if all its values are of the path's kind."""
    if len(parameter.sources) != 1 or parameter.sources[0].code != path.reference:
        return None
    limit = parameter.sources[0].target
    found: list[str] = []
    for value in values:
        match value:
            case ReferenceValue(resource_type, str(resource_id), None, None) if path.target == (
                resource_type or limit
            ) and limit in (None, path.target):
                found.append(resource_id)
            case _:
                return None
    return tuple(found)


def _tokens(
    parameter: SearchParameter, values: Sequence[object], path: HotPath
) -> tuple[TokenValue, ...] | None:
    if parameter.sources != (Source(path.token or ""),):
        return None
    found = [v for v in values if isinstance(v, TokenValue) and v.code is not None]
    return tuple(found) if len(found) == len(values) else None


def _bounds(values: Sequence[object]) -> comparisons.StartBounds | None:
    """Of one date alone: what several alternatives allow is left to the comparison."""
    if len(values) != 1 or not isinstance(values[0], DateValue):
        return None
    return comparisons.StartBounds(values[0])


def _one_or_in(values: Sequence[str]) -> object:
    return values[0] if len(values) == 1 else {"$in": list(values)}
