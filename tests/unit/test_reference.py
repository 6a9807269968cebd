"""What references point to."""

import pytest

from fhir_server.core import reference
from fhir_server.core.reference import Reference


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Patient/1", Reference("Patient", "1", "", "")),
        ("Patient/1/_history/2", Reference("Patient", "1", "", "2")),
        ("http://other/fhir/Patient/1", Reference("", "", "http://other/fhir/Patient/1", "")),
        (
            "http://other/fhir/Patient/1/_history/2",
            Reference("", "", "http://other/fhir/Patient/1", "2"),
        ),
        ("urn:uuid:0", Reference("", "", "urn:uuid:0", "")),
        ("patient/1", Reference("", "", "patient/1", "")),
        ("Patient/a_b", Reference("", "", "Patient/a_b", "")),
        ("Patient/1\n", Reference("", "", "Patient/1\n", "")),
        ("#p", None),
        ("", None),
    ],
)
def test_a_reference_is_local_or_a_url(text: str, found: Reference | None) -> None:
    assert reference.parse(text) == found


def test_a_canonical_is_a_url_and_a_version() -> None:
    assert reference.parse_canonical("http://x/y|2") == Reference("", "", "http://x/y", "2")
    assert reference.parse_canonical("http://x/y") == Reference("", "", "http://x/y", "")
    assert reference.parse_canonical("#y") is None
    assert reference.parse_canonical("|2") is None


def test_only_what_is_below_the_base_is_within_it() -> None:
    assert reference.within("http://h/fhir/Patient/1", "http://h/fhir") == "Patient/1"
    assert (
        reference.within("http://h/fhirx/Patient/1", "http://h/fhir") == "http://h/fhirx/Patient/1"
    )
    assert reference.within("Patient/1", "") == "Patient/1"
