"""ValueSet/$expand: the codes of a value set, filtered and page by page.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.expansion import Wish, expand
from fhir_server.core.terminology.pinning import pin
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.operations.terminology_call import (
    answer,
    meant,
    pinned,
    read_flag,
    read_number,
    required,
)

_FIRST = "system-version"
_ALWAYS = "force-system-version"
_CHECKED = "check-system-version"


async def expand_value_set(ctx: Context, call: Invocation) -> bytes:
    """The ValueSet with its expansion.

    Raises:
        NotFound: there is no such set.
        InvalidResource: it needs codes that are not known here.
        TooCostly: it is too big to be told at once.
    """
    inputs = call.inputs
    inputs.check_known(
        *("url", "valueSet", "valueSetVersion", "filter", "offset", "count", "activeOnly"),
        *("includeDesignations", "designation", "includeDefinition", "excludeNested"),
        *("excludeNotForUI", "excludePostCoordinated", "displayLanguage"),
        *("exclude-system", _FIRST, _CHECKED, _ALWAYS, "_format"),
    )
    set_meant = required(
        await meant(ctx, call, "ValueSet", "valueSet", "valueSetVersion"), "url and valueSet"
    )
    # Always so, whether asked for or not: flat, without what only groups, without expressions.
    for name in ("excludeNested", "excludeNotForUI", "excludePostCoordinated"):
        read_flag(inputs, name)
    wish = Wish(
        text=inputs.text("filter") or "",
        offset=read_number(inputs, "offset") or 0,
        count=read_number(inputs, "count"),
        with_designations=read_flag(inputs, "includeDesignations"),
        designations=inputs.texts("designation"),
        active_only=read_flag(inputs, "activeOnly"),
        with_definition=read_flag(inputs, "includeDefinition"),
        language=inputs.text("displayLanguage"),
        left_out=frozenset(inputs.texts("exclude-system")),
    )
    first, always, checked = (pinned(inputs, n) for n in (_FIRST, _ALWAYS, _CHECKED))
    identifier, now = f"urn:uuid:{ctx.new_id()}", ctx.now()

    def ask(terminology: Terminology) -> Resource:
        known = set_meant.within(terminology)
        value_set = known.resource("ValueSet", set_meant.url)
        if first or always or checked:
            value_set = pin(value_set, first, always, checked)
            known = known.knowing(value_set, set_meant.url)
        return expand(value_set, known.selection(set_meant.url), wish, identifier, now)

    if wish.offset and wish.count is None:
        raise fault("goes with a count", "offset")
    return await answer(ctx, call, "expand", ask)
