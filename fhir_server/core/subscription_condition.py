"""fhirPathCriteria of a topic: what is true of a change, not of a state.

https://hl7.org/fhir/R5/subscriptiontopic-definitions.html#SubscriptionTopic.resourceTrigger.fhirPathCriteria
"""

from typing import Any

from fhir_server.core.resource_json import Resource
from fhir_server.core.subscription_topic import Condition
from fhir_server.errors import InvalidSearch

# `trace()` would print what it is given, a patient's data, where the log goes.
_SILENT = {"traceFn": lambda _label, _value: None}


def compile_condition(expression: str) -> Condition:
    """A function of the states that `expression` calls `%previous` and `%current`.

    Only for what an operator has written: an expression may take any time.

    Raises:
        InvalidSearch: it is no FHIRPath.
    """
    # Imported when a topic asks for it: its grammar takes a sixth of a second.
    import fhirpathpy

    try:
        evaluate = fhirpathpy.compile(expression, options=_SILENT)
        # It reads on over what it does not understand, and finds out when it is asked.
        evaluate({}, {"previous": [{}], "current": [{}]})
    except Exception:  # whatever the parser makes of it
        raise InvalidSearch("fhirPathCriteria cannot be read") from None

    def holds(previous: Resource | None, current: Resource | None) -> bool:
        states: dict[str, Any] = {"previous": previous or [], "current": current or []}
        return bool(evaluate(current or previous or {}, states) == [True])

    return holds
