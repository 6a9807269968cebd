"""ConceptMap/$translate: a code in another code system, as the concept maps have it.

https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.closure import is_closure
from fhir_server.core.terminology.coding import read_codings
from fhir_server.core.terminology.concept_map import Wanted, translate
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.terminology import stored_maps
from fhir_server.operations.terminology_call import answer, meant, read_flag

_MOST_MAPS = 200


async def translate_code(ctx: Context, call: Invocation) -> bytes:
    """What one concept map, or all that are here, say of a code.

    Raises:
        NotFound: there is no such map.
    """
    inputs = call.inputs
    inputs.check_known(
        *("url", "conceptMap", "conceptMapVersion", "code", "system", "version", "source"),
        *("coding", "codeableConcept", "target", "targetsystem", "reverse", "_format"),
    )
    asked = read_codings(inputs)
    if any(not each.system for each in asked):
        raise fault("the code system is missing", "system", code="required")
    concept_map = await meant(ctx, call, "ConceptMap", "conceptMap", "conceptMapVersion")
    wanted = Wanted(
        inputs.text("targetsystem"),
        inputs.text("target"),
        inputs.text("source"),
        read_flag(inputs, "reverse"),
    )
    stored: list[Resource] = []
    if concept_map is None:
        if not (wanted.target_system or wanted.target):
            raise fault("give one of url, conceptMap, target and targetsystem", "url")
        stored = [m for m in await stored_maps(ctx, _MOST_MAPS) if not is_closure(m)]

    def ask(terminology: Terminology) -> Resource:
        known = concept_map.within(terminology) if concept_map else terminology
        if concept_map:
            maps = [known.resource("ConceptMap", concept_map.url)]
        else:
            shipped = ctx.terminology.names("ConceptMap")
            maps = [*(known.resource("ConceptMap", url) for url in shipped), *stored]
        return translate(maps, asked, wanted, lambda url: known.resource("ConceptMap", url))

    return await answer(ctx, call, "translate", ask)
