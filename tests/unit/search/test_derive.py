"""Which parameters say again what others say."""

import pytest

from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.search.derive import derive
from fhir_server.core.search.parameter import (
    SearchParameter,
    SearchParameters,
    SearchType,
    Source,
)


@pytest.mark.parametrize(
    ("resource_type", "code", "sources"),
    [
        ("Observation", "subject", (Source("subject"),)),
        ("Observation", "patient", (Source("subject", "Patient"),)),
        ("Observation", "combo-code", (Source("code"), Source("component-code"))),
        (
            "Observation",
            "combo-value-quantity",
            (Source("value-quantity"), Source("component-value-quantity")),
        ),
        ("Patient", "phonetic", (Source("name"),)),
        ("Patient", "given", (Source("given"),)),
        ("Patient", "email", (Source("email"),)),
        ("AuditEvent", "patient", (Source("agent", "Patient"), Source("entity", "Patient"))),
        ("Encounter", "practitioner", (Source("participant", "Practitioner"),)),
        (
            "Observation",
            "combo-code-value-quantity",
            (Source("code-value-quantity"), Source("component-code-value-quantity")),
        ),
        ("Observation", "_id", (Source("_id"),)),
    ],
)
def test_sources_follow_from_the_expressions(
    parameters: SearchParameters, resource_type: str, code: str, sources: tuple[Source, ...]
) -> None:
    found = parameters.get(resource_type, code)
    assert found is not None
    assert sorted(found.sources) == sorted(sources)
    assert found.is_derived == (found.sources != (Source(code),))


def test_a_source_is_always_an_owner(parameters: SearchParameters) -> None:
    for resource_type in parameters.resource_types:
        for parameter in parameters.for_type(resource_type).values():
            for source in parameter.sources:
                owner = parameters.get(resource_type, source.code)
                assert owner is not None
                assert not owner.is_derived
                assert owner.type is parameter.type


def test_the_parts_of_a_composite_own_entries(parameters: SearchParameters) -> None:
    count = 0
    for resource_type in parameters.resource_types:
        for parameter in parameters.for_type(resource_type).values():
            if parameter.type is SearchType.COMPOSITE and not parameter.is_derived:
                for component in parameter.components:
                    part = parameters.get(resource_type, component.code)
                    assert part is not None, (resource_type, parameter.code)
                    assert not part.is_derived
                    count += 1
    assert count > 50


def test_a_part_of_the_whole_resource_goes_with_every_element(
    parameters: SearchParameters,
) -> None:
    found = parameters.get("MolecularSequence", "chromosome-variant-coordinate")
    assert found is not None
    assert [c.is_of_resource for c in found.components] == [True, False, False]


def _parameter(code: str, expression: str, type_: SearchType) -> SearchParameter:
    return SearchParameter("Patient", code, type_, expression, f"http://x/{code}")


def test_only_parameters_of_one_type_share() -> None:
    found = derive(
        [
            _parameter("a", "Patient.name", SearchType.STRING),
            _parameter("b", "Patient.name", SearchType.TOKEN),
        ]
    )
    assert not any(p.is_derived for p in found.for_type("Patient").values())


def test_a_union_that_says_more_owns_its_entries() -> None:
    found = derive(
        [
            _parameter("a", "Patient.name.given", SearchType.STRING),
            _parameter("b", "Patient.name.given | Patient.name.family", SearchType.STRING),
        ]
    )
    assert not any(p.is_derived for p in found.for_type("Patient").values())


def test_order_and_spelling_of_a_union_do_not_matter() -> None:
    found = derive(
        [
            _parameter("long", "(Patient.deceased as dateTime)|Patient.birthDate", SearchType.DATE),
            _parameter(
                "b", "Patient.birthDate | Patient.deceased.ofType(dateTime)", SearchType.DATE
            ),
        ]
    ).for_type("Patient")
    assert found["long"].sources == (Source("b"),)


def test_an_expression_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(FhirPathError):
        derive([_parameter("a", "Patient.name(", SearchType.STRING)])
