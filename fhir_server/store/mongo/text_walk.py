"""Text walks: many resources of a type by one string, sorted in small portions.

MongoDB gives no order of an index on an array. But the first keys behind a place bound what
the page can hold: all that has a key up to there is sorted, and the page is its beginning.
Whatever the keys are read in, what is not sorted comes behind.
"""

from fhir_server.core.search.parameter import SearchType
from fhir_server.core.search.query import Query
from fhir_server.store.mongo import keys
from fhir_server.store.mongo.steps import Filter, Find, Steps


def is_possible(query: Query) -> bool:
    """Whether the query's order is one string's, forward, and among what has one."""
    if len(query.sort) != 1 or query.before is not None:
        return False
    parameter, is_descending = query.sort[0]
    return (
        parameter.type is SearchType.STRING
        and len(parameter.sources) == 1
        and not is_descending
        and (query.after is None or query.after.values[0] is not None)
    )


def narrowed(query: Query, filter_: Filter) -> Steps[Filter | None]:
    """`filter_` for as much as the page surely lies in; None where no bound is known.

    It may hold less than a page: then the rest has to be looked at as well.
    """
    code = query.sort[0].parameter.sources[0].code
    bounds = keys.all_of(code)
    behind: list[Filter] = []
    if query.after is not None:
        start = keys.string(code, str(query.after.values[0]))
        bounds["$gte"] = start
        # Of many that say the same, those before the page need not be read again.
        farther = {"x": {"$elemMatch": {"$gt": start, "$lt": bounds["$lt"]}}}
        behind = [{"$or": [farther, {"_id": {"$gt": query.after.sequence}}]}]
    # The string finds them: what would find all of a type would only compete.
    conditions = [part for part in filter_["$and"] if part != {"x": keys.MARKER}]
    asked = {**filter_, "$and": [{"x": {"$elemMatch": bounds}}, *conditions, *behind]}
    found = yield Find(asked, {"x": 1}, limit=query.count + 1, hint="keys")
    if len(found) <= query.count:
        return None
    first = [
        min(key for key in document["x"] if bounds["$gte"] <= key < bounds["$lt"])
        for document in found
    ]
    last = {"$gte": bounds["$gte"], "$lte": max(first)}
    return {**filter_, "$and": [{"x": {"$elemMatch": last}}, *conditions]}
