"""The conditional references of a transaction: what each of them names where it commits.

https://hl7.org/fhir/R4/http.html#trules
"""

from collections.abc import Sequence

from fhir_server.errors import Issue, PreconditionFailed
from fhir_server.interactions.condition import find_matches
from fhir_server.interactions.transaction_plan import Reference
from fhir_server.store.protocol import Transaction

_AMBIGUOUS = "the conditional reference matches more than one resource"
_UNMATCHED = "the conditional reference matches no resource"


def resolve(references: Sequence[Reference], tx: Transaction) -> dict[str, str]:
    """What each conditional reference names.

    Raises:
        PreconditionFailed: some name nothing, or several resources; all are told.
    """
    matches = find_matches(tx, (reference.condition for reference in references))
    named: dict[str, str] = {}
    faults: list[Issue] = []
    for condition, link in references:
        found = matches[condition]
        if len(found) == 1:
            named[link.text] = str(found[0])
        elif found:
            faults.append(Issue("multiple-matches", _AMBIGUOUS, link.expression))
        else:
            faults.append(Issue("not-found", _UNMATCHED, link.expression))
    if faults:
        raise PreconditionFailed(issues=faults)
    return named
