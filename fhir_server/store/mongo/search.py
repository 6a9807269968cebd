"""Searches: which index, which order, where the page ends.

A search without an order of its own goes by the commit sequence, ascending; with one,
the sequence breaks ties in the direction of the last sort key.
"""

from collections.abc import Sequence
from typing import Any

from fhir_server.core.search.parameter import SearchType, Source
from fhir_server.core.search.query import Cursor, Query, SortKey, Total
from fhir_server.errors import Gone
from fhir_server.store import page_ends
from fhir_server.store.mongo import date_walk, keys, reads, text_walk, timeline
from fhir_server.store.mongo.criteria import Scope, matching
from fhir_server.store.mongo.rows import VERSION_FIELDS, to_plain, to_version
from fhir_server.store.mongo.steps import Aggregate, Document, Filter, Find, Steps
from fhir_server.store.protocol import Page


def search(query: Query, known: Document | None = None) -> Steps[Page]:
    """One page; `known` is what `reads.commits` says, where the caller knows it.

    Raises:
        Gone: the index entries of that moment were purged.
        TooCostly: a chain goes through too many resources.
    """
    as_of = query.as_of
    state = (yield from reads.commits()) if known is None else known
    if as_of is not None and as_of < state["purged"]:
        raise Gone("the page link has expired: search again")
    newest: int = state["sequence"]
    as_of = newest if as_of is None else min(as_of, newest)
    scope = Scope(as_of, query.restriction, is_owned=bool(state.get("owned")))
    planned = timeline.plan(query)
    filter_: Filter | None = None
    found: list[Document] = []
    # Back along a timeline is seldom asked for; what it narrows down to is sorted then.
    if query.count > 0 and planned is not None and planned.is_in_order and query.before is None:
        found = yield from planned.find(query, scope)
    elif query.count > 0:
        filter_ = yield from _filter(query, scope, planned)
        found = yield from _find(query, filter_)
    total = None
    if query.total is not Total.NONE or query.count < 1:
        if filter_ is None:
            filter_ = yield from _filter(query, scope, planned)
        total = yield from _count(filter_)
    return to_page(query, found, as_of, total)


def to_page(query: Query, found: Sequence[Document], as_of: int, total: int | None = None) -> Page:
    """The page of what was found: in the direction that was asked, with one more if there is."""
    page = list(found[: query.count])
    if query.before is not None:
        page.reverse()
    names = [f"sort{number}" for number in range(len(query.sort))]
    cursors = tuple(
        Cursor(tuple(to_plain(each.get(name)) for name in names), int(each["_id"])) for each in page
    )
    ends = page_ends.find(query, cursors, is_more=len(found) > len(page))
    return Page(tuple(map(to_version, page)), as_of, ends.next, total, ends.previous, cursors)


def _filter(query: Query, scope: Scope, planned: timeline.Timeline | None) -> Steps[Filter]:
    filter_ = yield from matching(query.resource_type, query.criteria, scope)
    if planned is not None:
        filter_["$and"].append((yield from planned.narrowing()))
    return filter_


def _count(filter_: Filter) -> Steps[int]:
    found = yield Aggregate([{"$match": filter_}, {"$count": "total"}])
    return found[0]["total"] if found else 0


def _find(query: Query, filter_: Filter) -> Steps[list[Document]]:
    if not query.sort:
        return (yield from _find_in_order(query, filter_, 1))
    if len(query.sort) == 1 and query.sort[0].parameter.code == "_lastUpdated":
        # `last_updated` never goes back, so its order is the sequence's.
        direction = -1 if query.sort[0].descending else 1
        return (yield from _find_in_order(query, filter_, direction))
    if date_walk.is_possible(query) and (yield from date_walk.has_many(filter_)):
        return (yield from date_walk.find(query, filter_))
    if text_walk.is_possible(query) and (yield from date_walk.has_many(filter_)):
        narrowed = yield from text_walk.narrowed(query, filter_)
        if narrowed is not None:
            found = yield from _find_sorted(query, narrowed)
            if len(found) > query.count:
                return found
    return (yield from _find_sorted(query, filter_))


def _find_in_order(query: Query, filter_: Filter, direction: int) -> Steps[list[Document]]:
    start = query.after
    if query.before is not None:
        start, direction = query.before, -direction
    if start is not None:
        behind = "$gt" if direction > 0 else "$lt"
        filter_ = {**filter_, "$and": [*filter_["$and"], {"_id": {behind: start.sequence}}]}
    found = yield Find(filter_, VERSION_FIELDS, (("_id", direction),), query.count + 1)
    for document in found:
        document["sort0"] = document["u"]
    return found


def _find_sorted(query: Query, filter_: Filter) -> Steps[list[Document]]:
    """By computed sort values; a missing one comes last in both directions."""
    values: Document = {}
    order: dict[str, int] = {}
    way = 1 if query.before is None else -1
    for number, key in enumerate(query.sort):
        name = f"sort{number}"
        values[name] = _sort_value(key)
        order[f"{name}_missing"] = way
        order[name] = -way if key.descending else way
    missing = {f"{name}_missing": {"$cond": [{"$eq": [f"${name}", None]}, 1, 0]} for name in values}
    order["_id"] = -way if query.sort[-1].descending else way
    pipeline: list[Document] = [
        {"$match": filter_},
        {"$project": {**VERSION_FIELDS, **values}},
        {"$addFields": missing},
    ]
    if query.before is not None:
        pipeline.append({"$match": _ahead(query.before, query.sort)})
    elif query.after is not None:
        pipeline.append({"$match": _behind(query.after, query.sort)})
    pipeline += [{"$sort": order}, {"$limit": query.count + 1}]
    return (yield Aggregate(pipeline))


def _behind(after: Cursor, sort: tuple[SortKey, ...]) -> Filter:
    """What comes after the last resource of the page before."""
    equal: list[Filter] = []
    choices: list[Filter] = []
    for number, (key, value) in enumerate(zip(sort, after.values, strict=True)):
        name = f"sort{number}"
        if value is not None:
            behind = "$lt" if key.descending else "$gt"
            choices.append({"$and": [*equal, {name: {behind: value}, f"{name}_missing": 0}]})
            choices.append({"$and": [*equal, {f"{name}_missing": 1}]})
        equal.append({name: value})
    behind = "$lt" if sort[-1].descending else "$gt"
    choices.append({"$and": [*equal, {"_id": {behind: after.sequence}}]})
    return {"$or": choices}


def _ahead(before: Cursor, sort: tuple[SortKey, ...]) -> Filter:
    """What comes before the first resource of the page behind."""
    equal: list[Filter] = []
    choices: list[Filter] = []
    for number, (key, value) in enumerate(zip(sort, before.values, strict=True)):
        name = f"sort{number}"
        if value is None:
            choices.append({"$and": [*equal, {f"{name}_missing": 0}]})
        else:
            ahead = "$gt" if key.descending else "$lt"
            choices.append({"$and": [*equal, {name: {ahead: value}, f"{name}_missing": 0}]})
        equal.append({name: value})
    ahead = "$gt" if sort[-1].descending else "$lt"
    choices.append({"$and": [*equal, {"_id": {ahead: before.sequence}}]})
    return {"$or": choices}


def _sort_value(key: SortKey) -> Any:
    parameter = key.parameter
    if parameter.code == "_id":
        return "$k"
    if parameter.code == "_lastUpdated":
        return "$u"
    codes = [source.code for source in parameter.sources]
    match parameter.type:
        case SearchType.DATE:
            values = _values_of("$d", codes, "$$this.l")
        case SearchType.STRING:
            values = _values_of("$st", codes, "$$this.f")
        case SearchType.NUMBER:
            values = _values_of("$q", codes, "$$this.h" if key.descending else "$$this.l")
        case SearchType.QUANTITY:
            own, canonical = ("h", "ch") if key.descending else ("l", "cl")
            values = _values_of("$q", codes, {"$ifNull": [f"$$this.{canonical}", f"$$this.{own}"]})
        case _:
            values = {"$concatArrays": [_texts_of(s, parameter.type) for s in parameter.sources]}
    return {"$max" if key.descending else "$min": values}


def _values_of(array: str, codes: list[str], value: Any) -> Document:
    belongs = {"$in": ["$$this.p", {"$literal": codes}]}
    chosen = {"$filter": {"input": {"$ifNull": [array, []]}, "as": "this", "cond": belongs}}
    return {"$map": {"input": chosen, "as": "this", "in": value}}


def _texts_of(source: Source, search_type: SearchType) -> Document:
    """Codes, references and URIs, which stand in the index keys alone."""
    bounds = keys.all_of(source.code)
    conditions: list[Document] = [
        {"$gte": ["$$this", {"$literal": bounds["$gte"]}]},
        {"$lt": ["$$this", {"$literal": bounds["$lt"]}]},
    ]
    parts: Document = {"$split": ["$$this", keys.SEPARATOR]}
    value: Document = {"$arrayElemAt": [parts, 1]}
    qualifier: Document = {"$arrayElemAt": [parts, 2]}
    if search_type is SearchType.TOKEN:
        conditions.append({"$ne": [value, ""]})
    if search_type is SearchType.REFERENCE:
        if source.target is not None:
            conditions.append({"$eq": [qualifier, {"$literal": source.target}]})
        local: Document = {"$concat": [qualifier, "/", value]}
        value = {"$cond": [{"$eq": [qualifier, ""]}, value, local]}
    chosen = {"$filter": {"input": "$x", "as": "this", "cond": {"$and": conditions}}}
    return {"$map": {"input": chosen, "as": "this", "in": value}}
