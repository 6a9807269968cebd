"""OperationOutcome: https://hl7.org/fhir/R4/operationoutcome.html."""

from fhir_server.core.outcome import MAX_ISSUES, operation_outcome
from fhir_server.errors import Issue


def test_issue_carries_its_expression():
    said = operation_outcome([Issue("value", "is no date", "Patient.birthDate")])
    assert said == {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": "value",
                "diagnostics": "is no date",
                "expression": ["Patient.birthDate"],
            }
        ],
    }


def test_empty_texts_are_left_out():
    assert operation_outcome([Issue("not-found", "")])["issue"] == [
        {"severity": "error", "code": "not-found"}
    ]


def test_more_issues_than_the_limit_are_counted():
    said = operation_outcome([Issue("value", "wrong")] * (MAX_ISSUES + 7))["issue"]
    assert len(said) == MAX_ISSUES + 1
    assert said[-1]["diagnostics"].startswith("7 more")
