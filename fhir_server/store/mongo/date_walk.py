"""Date walks: many resources of a type by date, read off an index and not sorted.

For searches that name nobody: the newest readings of all. Few matches are sorted, as they
may lie far apart in the index; of many the first page is near its beginning.
"""

from fhir_server.core.search.parameter import Source
from fhir_server.core.search.query import Query
from fhir_server.store.mongo import keys
from fhir_server.store.mongo.rows import HOT_PATHS, VERSION_FIELDS
from fhir_server.store.mongo.steps import Aggregate, Document, Filter, Find, Steps

INDEX = "type_date"
MANY = 500

_EARLIEST = -(2**63)
_DATES = {path.resource_type: path.date for path in HOT_PATHS}


def is_possible(query: Query) -> bool:
    """Whether the index has the query's order."""
    date = _DATES.get(query.resource_type)
    return (
        date is not None
        and query.before is None
        and len(query.sort) == 1
        and query.sort[0].parameter.sources == (Source(date),)
    )


def has_many(filter_: Filter) -> Steps[bool]:
    found = yield Aggregate([{"$match": filter_}, {"$limit": MANY}, {"$count": "total"}])
    return bool(found) and found[0]["total"] >= MANY


def find(query: Query, filter_: Filter) -> Steps[list[Document]]:
    """A page and one more, each with its `sort0`; what has no date comes last."""
    direction = -1 if query.sort[0].descending else 1
    behind = "$gt" if direction > 0 else "$lt"
    # The date finds them: what would find all of a type would only compete.
    conditions = [part for part in filter_["$and"] if part != {"x": keys.MARKER}]
    after = query.after
    found: list[Document] = []
    if after is None or after.values[0] is not None:
        dated = [*conditions, {"hd": {"$gte": _EARLIEST}}]
        if after is not None:
            date, sequence = after.values[0], after.sequence
            dated += [
                {"hd": {f"{behind}e": date}},
                {"$or": [{"hd": {behind: date}}, {"_id": {behind: sequence}}]},
            ]
        found = yield Find(
            {**filter_, "$and": dated},
            {**VERSION_FIELDS, "hd": 1},
            (("hd", direction), ("_id", direction)),
            query.count + 1,
            INDEX,
        )
    if len(found) <= query.count:
        undated = [*conditions, {"x": keys.MARKER}, {"hd": None}]
        if after is not None and after.values[0] is None:
            undated.append({"_id": {behind: after.sequence}})
        found += yield Find(
            {**filter_, "$and": undated},
            VERSION_FIELDS,
            (("_id", direction),),
            query.count + 1 - len(found),
            "keys",
        )
    for document in found:
        document["sort0"] = document.get("hd")
    return found
