"""OperationOutcome: issues as a resource.

https://hl7.org/fhir/R4/operationoutcome.html
"""

from collections.abc import Sequence

from fhir_server.core.resource_json import Resource
from fhir_server.errors import Issue

MAX_ISSUES = 100

_SOURCE = "http://hl7.org/fhir/StructureDefinition/operationoutcome-issue-source"


def operation_outcome(issues: Sequence[Issue]) -> Resource:
    """The resource that says `issues`; beyond `MAX_ISSUES` it says how many there are more."""
    said = [_format_issue(issue) for issue in issues[:MAX_ISSUES]]
    if len(issues) > MAX_ISSUES:
        more = f"{len(issues) - MAX_ISSUES} more issues are not listed"
        said.append(_format_issue(Issue("informational", more, severity="information")))
    return {"resourceType": "OperationOutcome", "issue": said}


ALL_OK = (Issue("informational", "all is well", severity="information"),)


def _format_issue(issue: Issue) -> Resource:
    said: Resource = {"severity": issue.severity, "code": issue.code}
    if issue.diagnostics:
        said["diagnostics"] = issue.diagnostics
    if issue.source:
        said["extension"] = [{"url": _SOURCE, "valueString": issue.source}]
    if issue.expression:
        said["expression"] = [issue.expression]
    return said
