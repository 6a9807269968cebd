"""Compartments: which parameters tie a resource to a patient."""

import pytest

from fhir_server.core.compartment import Compartments

COMPARTMENTS = Compartments(
    {
        "Patient": {"Observation": ["subject", "performer"], "Patient": ["link"]},
        "Encounter": {"Encounter": ["{def}"], "Observation": ["encounter"]},
    }
)


@pytest.mark.parametrize(
    ("compartment", "resource_type", "codes"),
    [
        ("Patient", "Observation", ("subject", "performer")),
        ("Patient", "Patient", ("_id", "link")),
        ("Patient", "Device", ()),
        ("Encounter", "Encounter", ("_id",)),
        ("Organization", "Observation", ()),
    ],
)
def test_the_parameters_of_a_type_tell_whether_it_is_in(compartment, resource_type, codes):
    assert COMPARTMENTS.parameters(compartment, resource_type) == codes


def test_the_types_of_a_compartment_are_known():
    assert COMPARTMENTS.types == {"Patient", "Encounter"}
    assert COMPARTMENTS.resource_types("Patient") == {"Observation", "Patient"}
    assert COMPARTMENTS.resource_types("Organization") == frozenset()
