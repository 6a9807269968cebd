"""CodeSystem/$lookup and CodeSystem/$subsumes: a code, and how two stand to each other.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html
https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from fhir_server.core.operation_input import fault
from fhir_server.core.operation_output import parameters, value
from fhir_server.core.resource_json import Resource
from fhir_server.core.terminology import lookup as looking_up
from fhir_server.core.terminology.code_system import AnyCodeSystem
from fhir_server.core.terminology.coding import Asked, read_coding
from fhir_server.core.terminology.terminology import Terminology
from fhir_server.interactions.context import Context
from fhir_server.interactions.operation import Invocation
from fhir_server.operations.terminology_call import Meant, answer, meant


async def lookup(ctx: Context, call: Invocation) -> bytes:
    """What is known of a code.

    Raises:
        NotFound: the code system is not known, or has no such code.
    """
    inputs = call.inputs
    inputs.check_known(
        "code", "system", "version", "coding", "displayLanguage", "property", "_format"
    )
    asked = _asked(call, "code", "coding")
    language, wanted = inputs.text("displayLanguage"), inputs.texts("property")
    version = inputs.text("version") or asked.version

    def ask(terminology: Terminology) -> Resource | None:
        known = terminology.find(asked.system, version)
        if known is None or _may_be_elsewhere(ctx, known, asked.code):
            return None
        return looking_up.lookup(known, asked.code, language, wanted)

    return await answer(ctx, call, "lookup", ask)


async def subsumes(ctx: Context, call: Invocation) -> bytes:
    """How two codes of a code system stand to each other.

    Raises:
        NotFound: the code system is not known, or has not both.
    """
    inputs = call.inputs
    inputs.check_known("codeA", "codeB", "codingA", "codingB", "system", "version", "_format")
    system = await meant(ctx, call, "CodeSystem", "codeSystem")
    left, right = (_asked(call, f"code{side}", f"coding{side}", system) for side in "AB")
    if left.system != right.system:
        raise fault("both codes are of one code system", "codingB")
    version = inputs.text("version") or left.version

    def ask(terminology: Terminology) -> Resource | None:
        known = terminology.find(left.system, version)
        if known is None or any(_may_be_elsewhere(ctx, known, a.code) for a in (left, right)):
            return None
        outcome = looking_up.subsumes(known, left.code, right.code)
        return parameters(value("outcome", "Code", outcome))

    return await answer(ctx, call, "subsumes", ask)


def _may_be_elsewhere(ctx: Context, known: AnyCodeSystem, code: str) -> bool:
    """Whether another server may know a code that is not known here."""
    return ctx.remote_terminology is not None and not known.is_complete and not known.find(code)


def _asked(
    call: Invocation, code_name: str, coding_name: str, system: Meant | None = None
) -> Asked:
    inputs = call.inputs
    codings, code = inputs.objects(coding_name), inputs.text(code_name)
    if len(codings) + (code is not None) != 1:
        raise fault(f"give {code_name} or {coding_name}", code_name, code="required")
    asked = read_coding(codings[0], coding_name) if codings else Asked("", code or "")
    url = system.url if system else asked.system or inputs.text("system") or ""
    if not url:
        raise fault("the code system is missing", "system", code="required")
    return asked._replace(system=url)
