"""explain: how a search would run, for whoever operates the server.

`_explain=true` beside the parameters of any search answers with an OperationOutcome of
information in place of the matches. The store runs the search to tell.
"""

from fhir_server.core import resource_json
from fhir_server.core.outcome import operation_outcome
from fhir_server.core.query_string import Params
from fhir_server.errors import InvalidSearch, Issue
from fhir_server.interactions.context import Context
from fhir_server.interactions.search_plan import make_plan
from fhir_server.interactions.searched import Searched
from fhir_server.interactions.terminology import with_terminology

EXPLAIN = "_explain"

# All types at once are as many searches, planned alike.
_MOST_QUERIES = 5


async def explain(ctx: Context, searched: Searched, params: Params, *, is_strict: bool) -> bytes:
    """What the store says of each query that `params` become.

    Raises:
        InvalidSearch: a parameter cannot be applied.
    """
    asked = {text for name, text in params if name == EXPLAIN}
    if asked != {"true"}:
        raise InvalidSearch("_explain: expected true")
    rest = tuple(pair for pair in params if pair[0] != EXPLAIN)
    at = ctx.now()
    plan = await with_terminology(
        ctx, lambda ctx: make_plan(ctx, searched, rest, at, is_strict=is_strict)
    )
    issues = list(plan.ignored)
    for query in plan.queries[:_MOST_QUERIES]:
        lines = await ctx.store.explain(query)
        issues += (
            Issue("informational", f"{query.resource_type}: {line}", severity="information")
            for line in lines
        )
    if len(plan.queries) > _MOST_QUERIES:
        more = f"{len(plan.queries) - _MOST_QUERIES} more types are searched likewise"
        issues.append(Issue("informational", more, severity="information"))
    return resource_json.format(operation_outcome(issues))
