"""Faults of a Bundle's entries: told with the path of the entry they are in."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from fhir_server.core.bundle_request import expression
from fhir_server.errors import FhirError, InvalidRequest, Issue


@contextmanager
def placed(position: int) -> Iterator[None]:
    """Faults within are told with the path of the entry at `position`."""
    try:
        yield
    except FhirError as error:
        raise with_issues(error, [_place(issue, position) for issue in error.issues]) from None


def with_issues(error: FhirError, issues: Sequence[Issue]) -> FhirError:
    """`error` of the same kind with other issues."""
    changed = copy.copy(error)
    changed.issues = tuple(issues)
    return changed


def overlap(position: int) -> FhirError:
    """The fault of an entry about a resource that an earlier entry is about."""
    diagnostics = "an earlier entry is about the same resource"
    return InvalidRequest(issues=(Issue("invalid", diagnostics, expression(position)),))


def _place(issue: Issue, position: int) -> Issue:
    at = expression(position)
    if issue.expression is None:
        return issue._replace(expression=at)
    if issue.expression.startswith("Bundle."):
        return issue
    # "Observation.code" becomes "Bundle.entry[0].resource.code".
    _, dot, path = issue.expression.partition(".")
    return issue._replace(expression=f"{at}.resource{dot}{path}")
