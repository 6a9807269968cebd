"""CodeSystem/$validate-code and ValueSet/$validate-code: whether a code is one of them.

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology.checking import Verdict, check_in_code_system, check_in_value_set
from fhir_server.core.terminology.coding import read_codings
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.operations.terminology_call import answer, meant, read_flag, required

_CODES = ("code", "display", "coding", "codeableConcept", "abstract", "displayLanguage", "_format")


async def validate_in_code_system(ctx: Context, call: Invocation) -> bytes:
    """Whether a code is one of a code system.

    Raises:
        NotFound: nothing is known of that code system.
    """
    inputs = call.inputs
    inputs.check_known("url", "codeSystem", "version", *_CODES)
    asked = read_codings(inputs)
    system = await meant(ctx, call, "CodeSystem", "codeSystem", "version")
    url = system.url if system else asked[0].system
    if not url:
        raise fault("give one of url, codeSystem and coding", "url", code="required")
    language, may_be_abstract = inputs.text("displayLanguage"), read_flag(inputs, "abstract")

    def ask(terminology: Terminology) -> Resource | None:
        known = (system.within(terminology) if system else terminology).find(url)
        if known is None:
            return None
        verdict = check_in_code_system(known, asked, language, may_be_abstract=may_be_abstract)
        return _answer(ctx, verdict)

    return await answer(ctx, call, "validate-code", ask)


async def validate_in_value_set(ctx: Context, call: Invocation) -> bytes:
    """Whether a code is one of a value set.

    Raises:
        NotFound: there is no such set.
    """
    inputs = call.inputs
    inputs.check_known(
        "url", "valueSet", "valueSetVersion", "system", "systemVersion", "version", *_CODES
    )
    asked = read_codings(inputs, version="systemVersion")
    value_set = required(
        await meant(ctx, call, "ValueSet", "valueSet", "valueSetVersion"), "url and valueSet"
    )
    language, may_be_abstract = inputs.text("displayLanguage"), read_flag(inputs, "abstract")

    def ask(terminology: Terminology) -> Resource | None:
        known = value_set.within(terminology)
        verdict = check_in_value_set(
            known,
            known.selection(value_set.url),
            asked,
            language,
            may_be_abstract=may_be_abstract,
        )
        return _answer(ctx, verdict)

    return await answer(ctx, call, "validate-code", ask)


def _answer(ctx: Context, verdict: Verdict) -> Resource | None:
    """None lets another server tell, where there is one."""
    if verdict.is_valid is None and ctx.remote_terminology is not None:
        return None
    return verdict.parameters()
