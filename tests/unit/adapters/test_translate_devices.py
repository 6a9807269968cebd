"""What goes with a reading, at the registry's door: a status passes, a clock does not."""

from typing import Any

import pytest

from adapters.national_registry.translate import Rules, is_wanted
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM


@pytest.mark.parametrize(("subject", "is_sent"), [("Patient/p1", True), ("Device/d1", False)])
def test_what_a_device_says_of_itself_stays_here(subject: str, is_sent: bool) -> None:
    observation: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": "r1"}],
        "subject": {"reference": subject},
    }
    assert is_wanted(observation, Rules()) is is_sent
