"""$acknowledge: somebody has seen an alert; who, when and what they did about it.

It becomes a `mitigation` of the DetectedIssue, so the history says it too; the notices that
were on their way are completed and nothing is escalated any more.
https://hl7.org/fhir/R4/detectedissue.html
"""

from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring import alert
from fhir_server.core.operation_input import fault
from fhir_server.core.resource_json import Resource
from fhir_server.core.version import Version, format_instant, next_version
from fhir_server.errors import InvalidRequest, NotFound
from fhir_server.interactions.context import Context
from fhir_server.interactions.incoming import check_resource
from fhir_server.interactions.operation import Invocation
from fhir_server.interactions.read import check_present
from fhir_server.store.protocol import Transaction

ACTIONS = "https://pmp.example/fhir/CodeSystem/alert-action"


async def acknowledge(ctx: Context, call: Invocation) -> bytes:
    """The alert as it is now. Inputs: `author` (a Reference), `comment` (a text); both optional.

    Acknowledging again adds a line to it: several people may react.

    Raises:
        NotFound, Gone: there is no such alert.
        InvalidRequest: the DetectedIssue is no alert of this server.
    """
    call.inputs.check_known("author", "comment")
    comment = call.inputs.text("comment")
    authors = call.inputs.objects("author")
    if len(authors) > 1:
        raise fault("one author at most", "author", code="structure")
    if call.resource_id is None:
        raise LookupError("$acknowledge is of an instance")
    key = ResourceKey("DetectedIssue", call.resource_id)

    def decide(tx: Transaction) -> Version:
        current = tx.read(key)
        if current is None:
            raise NotFound(f"{key} is not known")
        issue = check_present(current).resource()
        if not alert.is_alert(issue):
            raise InvalidRequest(f"{key} is no alert of this server")
        mitigation: Resource = {
            "action": {
                "coding": [{"system": ACTIONS, "code": "acknowledged", "display": "Acknowledged"}],
                **({"text": comment} if comment else {}),
            },
            "date": format_instant(tx.now),
            **({"author": authors[0]} if authors else {}),
        }
        issue["mitigation"] = [*issue.get("mitigation", ()), mitigation]
        check_resource(ctx, issue)
        version, stored = next_version(current, key, issue, tx.now)
        tx.put(version, stored)
        return version

    version = await ctx.store.commit(decide)
    if version.body is None:
        raise LookupError(f"{key} was put without a body")
    return version.body
