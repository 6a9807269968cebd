"""Index entries: what each type of element becomes."""

from decimal import Decimal
from typing import Any

import pytest

from fhir_server.core import date_range
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.fhirpath.expression import FhirPathError
from fhir_server.core.quantity import UCUM
from fhir_server.core.search.derive import derive
from fhir_server.core.search.entry import (
    GREATEST,
    LEAST,
    DateEntry,
    IndexEntries,
    NumberEntry,
    QuantityEntry,
    ReferenceEntry,
    StringEntry,
    TokenEntry,
    UriEntry,
)
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.parameter import SearchParameter, SearchParameters, SearchType
from fhir_server.errors import InvalidResource

MOSCOW = date_range.load_zone("Europe/Moscow")
LOINC = "http://loinc.org"


def entries_of(entries: IndexEntries, parameter: str) -> list[Any]:
    return [entry for kind in entries for entry in kind if entry.parameter == parameter]


def patient(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **elements}


def observation(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", **elements}


@pytest.mark.parametrize(
    ("concept", "found"),
    [
        ({"coding": [{"system": LOINC, "code": "1", "display": "One"}]}, [(LOINC, "1", "One")]),
        ({"coding": [{"code": "1"}]}, [("", "1", "")]),
        ({"coding": [{"system": LOINC}]}, [(LOINC, "", "")]),
        ({"text": "words"}, [("", "", "words")]),
        # The text stands with a coding that shows none of its own.
        ({"coding": [{"code": "1"}], "text": "words"}, [("", "1", "words")]),
        ({"coding": [{"code": "1", "display": "words"}], "text": "words"}, [("", "1", "words")]),
        (
            {"coding": [{"code": "1", "display": "One"}], "text": "words"},
            [("", "1", "One"), ("", "", "words")],
        ),
        (
            {"coding": [{"code": "1", "display": "One"}, {"code": "2"}], "text": "words"},
            [("", "1", "One"), ("", "2", "words")],
        ),
    ],
)
def test_a_concept_gives_its_codings_and_its_text(
    index: Any, concept: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    assert entries_of(index(observation(code=concept)), "code") == [
        TokenEntry("code", system, code, False, text) for system, code, text in found
    ]


def test_identifiers_and_contact_points_are_told_apart_from_codes(index: Any) -> None:
    found = index(
        patient(
            identifier=[{"system": "s", "value": "1"}, {"value": "2"}, {"system": "only"}, {}],
            telecom=[{"system": "phone", "value": "3"}, {"use": "home"}],
            gender="male",
            active=False,
        )
    )
    assert entries_of(found, "identifier") == [
        TokenEntry("identifier", "s", "1", True),
        TokenEntry("identifier", "", "2", True),
        TokenEntry("identifier", "only", "", True),
    ]
    assert entries_of(found, "telecom") == [TokenEntry("telecom", "phone", "3", True)]
    assert entries_of(found, "phone") == [TokenEntry("phone", "phone", "3", True)]
    assert entries_of(found, "email") == []
    assert entries_of(found, "gender") == [TokenEntry("gender", "", "male")]
    assert entries_of(found, "active") == [TokenEntry("active", "", "false")]


def test_an_identifiers_type_is_kept_beside_it(index: Any) -> None:
    kind = {"coding": [{"system": "t", "code": "MR", "display": "Record"}, {"code": "X"}]}
    found = index(patient(identifier=[{"system": "s", "value": "1", "type": kind}]))
    assert entries_of(found, "identifier") == [TokenEntry("identifier", "s", "1", True, "Record")]
    assert entries_of(found, "identifier:of-type") == [
        TokenEntry("identifier:of-type", "t", "MR|1", True),
        TokenEntry("identifier:of-type", "", "X|1", True),
    ]


def test_whoever_has_no_word_of_a_death_is_not_deceased(index: Any) -> None:
    for element, value in [
        ({}, "false"),
        ({"deceasedBoolean": False}, "false"),
        ({"deceasedBoolean": True}, "true"),
        ({"deceasedDateTime": "2020"}, "true"),
    ]:
        found = entries_of(index(patient(**element)), "deceased")
        assert found == [TokenEntry("deceased", "", value)]


def test_references_are_local_or_urls(index: Any) -> None:
    found = index(
        observation(
            subject={"reference": "Patient/1/_history/3"},
            performer=[
                {"reference": "http://other/fhir/Practitioner/2"},
                {"reference": "urn:uuid:0"},
                {"reference": "#inside"},
                {"display": "nobody"},
            ],
            device={"identifier": {"system": "s", "value": "v"}, "type": "Device"},
        )
    )
    assert entries_of(found, "subject") == [ReferenceEntry("subject", "Patient", "1", "", "3")]
    assert entries_of(found, "performer") == [
        ReferenceEntry("performer", "", "", "http://other/fhir/Practitioner/2"),
        ReferenceEntry("performer", "", "", "urn:uuid:0"),
    ]
    assert entries_of(found, "device") == []
    assert entries_of(found, "device:identifier") == [
        TokenEntry("device:identifier", "s", "v", True)
    ]


def test_a_canonical_is_a_url_with_a_version(index: Any) -> None:
    found = index(
        {"resourceType": "CarePlan", "instantiatesCanonical": ["http://x/p|2", "http://x/q"]}
    )
    assert entries_of(found, "instantiates-canonical") == [
        ReferenceEntry("instantiates-canonical", "", "", "http://x/p", "2"),
        ReferenceEntry("instantiates-canonical", "", "", "http://x/q"),
    ]


def test_dates_are_ranges(index: Any) -> None:
    found = index(observation(effectivePeriod={"start": "2024-03-01", "end": "2024-03-02"}))
    assert entries_of(found, "date") == [
        DateEntry(
            "date",
            date_range.DateRange(
                date_range.parse("2024-03-01", MOSCOW).start,
                date_range.parse("2024-03-02", MOSCOW).end,
            ),
        )
    ]
    assert entries_of(index(observation(effectivePeriod={})), "date") == []
    timing = index(observation(effectiveTiming={"event": ["2024-03-01", "2024-03-03"]}))
    assert entries_of(timing, "date")[0].range.end == date_range.parse("2024-03-03", MOSCOW).end


def test_strings_are_kept_folded_and_as_written(index: Any) -> None:
    found = index(
        patient(
            name=[{"family": "Müller", "given": ["Anna", None], "_given": [None, {}]}],
            address=[{"line": ["1 Road"], "city": "Köln"}],
        )
    )
    assert entries_of(found, "name") == [
        StringEntry("name", "muller", "Müller"),
        StringEntry("name", "anna", "Anna"),
    ]
    assert entries_of(found, "family") == [StringEntry("family", "muller", "Müller")]
    assert entries_of(found, "phonetic") == []
    assert entries_of(found, "address") == [
        StringEntry("address", "1 road", "1 Road"),
        StringEntry("address", "koln", "Köln"),
    ]


def quantity(value: str, code: str = "mg", **more: Any) -> dict[str, Any]:
    return {"value": Decimal(value), "unit": "u", "system": UCUM, "code": code, **more}


def test_a_quantity_is_kept_as_written_and_in_canonical_units(index: Any) -> None:
    (found,) = entries_of(index(observation(valueQuantity=quantity("5.40"))), "value-quantity")
    assert found == QuantityEntry(
        "value-quantity",
        Decimal("5.40"),
        Decimal("5.40"),
        UCUM,
        "mg",
        "u",
        Decimal("0.00540"),
        Decimal("0.00540"),
        "g",
    )
    assert str(found.low) == "5.40"


def test_a_unit_that_ucum_does_not_know_is_kept_as_it_is(index: Any) -> None:
    for odd in (quantity("5", "furlong"), {"value": 5, "code": "mg"}, {"value": 5}):
        (found,) = entries_of(index(observation(valueQuantity=odd)), "value-quantity")
        assert found.canonical_code == ""
        assert found.canonical_low == found.low == Decimal(5)


def test_a_comparator_leaves_one_side_open(index: Any) -> None:
    for comparator, low, high in [
        ("<", LEAST, 33),
        ("<=", LEAST, 33),
        (">", 33, GREATEST),
        (">=", 33, GREATEST),
    ]:
        value = quantity("33", "kg", comparator=comparator)
        (found,) = entries_of(index(observation(valueQuantity=value)), "value-quantity")
        assert (found.low, found.high) == (low, high)
        assert found.canonical_low in (LEAST, 33_000)
        assert found.canonical_high in (GREATEST, 33_000)


def test_ranges_money_and_ages_are_quantities(index: Any) -> None:
    condition = {"resourceType": "Condition"}
    found = index({**condition, "onsetRange": {"low": quantity("3", "a"), "high": None}})
    (onset,) = entries_of(found, "onset-age")
    assert (onset.low, onset.high, onset.code) == (3, GREATEST, "a")
    found = index(
        {**condition, "onsetRange": {"low": quantity("3", "a"), "high": quantity("5", "a")}}
    )
    assert [(e.low, e.high) for e in entries_of(found, "onset-age")] == [(3, 5)]
    for empty in ({}, {"low": quantity("5"), "high": quantity("3")}):
        assert entries_of(index({**condition, "onsetRange": empty}), "onset-age") == []
    assert len(entries_of(index({**condition, "onsetAge": quantity("3", "a")}), "onset-age")) == 1
    money = index({"resourceType": "Invoice", "totalNet": {"value": 9, "currency": "RUB"}})
    (net,) = entries_of(money, "totalnet")
    assert (net.low, net.system, net.code) == (9, "urn:iso:std:iso:4217", "RUB")


def test_absurd_numbers_stay_finite(index: Any) -> None:
    for text in ("1e999999", "-1e999999", "1e-999999", "9" * 500):
        (found,) = entries_of(
            index(observation(valueQuantity=quantity(text, "kg"))), "value-quantity"
        )
        assert found.canonical_low.is_finite()
        assert found.low == Decimal(text)


def test_long_texts_are_indexed_like_short_ones(index: Any) -> None:
    long = "x" * 10_000
    value = {"value": 1, "unit": long}
    found = index(observation(valueQuantity=value, subject={"reference": f"http://{long}"}))
    assert entries_of(found, "value-quantity")[0].unit == long
    assert entries_of(found, "subject")[0].url == f"http://{long}"


def test_sampled_data_and_valueless_quantities_say_nothing(index: Any) -> None:
    for value in (
        {"valueSampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 1}},
        {"valueQuantity": {"unit": "mg"}},
    ):
        assert entries_of(index(observation(**value)), "value-quantity") == []


def test_numbers_and_uris_are_kept_as_written(index: Any) -> None:
    risk = {"resourceType": "RiskAssessment"}
    found = index({**risk, "prediction": [{"probabilityDecimal": Decimal("0.50")}]})
    half = Decimal("0.5")
    assert entries_of(found, "probability") == [NumberEntry("probability", half, half)]
    found = index({**risk, "prediction": [{"probabilityRange": {"high": {"value": 1}}}]})
    assert entries_of(found, "probability") == [NumberEntry("probability", LEAST, Decimal(1))]
    found = index({"resourceType": "ValueSet", "url": "http://x/Y"})
    assert entries_of(found, "url") == [UriEntry("url", "http://x/Y")]


def test_tags_and_profiles_are_entries_like_others(index: Any) -> None:
    meta = {"profile": ["http://x/p"], "tag": [{"system": "s", "code": "t"}], "source": "http://y"}
    found = index(observation(meta=meta, id="1"))
    assert entries_of(found, "_profile") == [UriEntry("_profile", "http://x/p")]
    assert entries_of(found, "_tag") == [TokenEntry("_tag", "s", "t")]
    assert entries_of(found, "_source") == [UriEntry("_source", "http://y")]
    assert entries_of(found, "_id") == []


def test_no_entry_stands_twice(index: Any) -> None:
    name = {"family": "A", "given": ["A", "a"]}
    found = entries_of(index(patient(name=[name, name])), "name")
    assert found == [StringEntry("name", "a", "A"), StringEntry("name", "a", "a")]


def test_derived_parameters_have_no_entries(index: Any) -> None:
    found = index(observation(subject={"reference": "Patient/1"}, code={"text": "x"}))
    assert entries_of(found, "patient") == []
    assert entries_of(found, "combo-code") == []


def test_the_parts_of_a_composite_tell_their_element(index: Any) -> None:
    component = [
        {"code": {"coding": [{"code": "sys"}]}, "valueQuantity": quantity("120")},
        {"code": {"coding": [{"code": "dia"}]}, "valueQuantity": quantity("80")},
    ]
    found = index(observation(code={"coding": [{"code": "bp"}]}, component=component))
    assert [(e.code, e.element) for e in entries_of(found, "component-code")] == [
        ("sys", 0),
        ("dia", 1),
    ]
    quantities = entries_of(found, "component-value-quantity")
    assert [(e.low, e.element) for e in quantities] == [(120, 0), (80, 1)]
    assert [e.element for e in entries_of(found, "code")] == [0]


def test_extensions_are_found_by_their_value(element_types: ElementTypes) -> None:
    gene = SearchParameter(
        "Observation", "gene", SearchType.TOKEN, "Observation.extension('http://x/g')", "http://x"
    )
    indexer = Indexer(derive([gene]), element_types, "UTC")
    value = {"url": "http://x/g", "valueCodeableConcept": {"coding": [{"code": "g"}]}}
    other = {"url": "http://x/other", "valueString": "x"}
    found = indexer.index(observation(extension=[value, other]))
    assert found.tokens == (TokenEntry("gene", "", "g"),)


def test_the_first_resource_of_a_bundle_is_referred_to(index: Any) -> None:
    first, second = ({"resourceType": "Composition", "id": i} for i in "cd")
    found = index({"resourceType": "Bundle", "entry": [{"resource": first}, {"resource": second}]})
    assert [entry.resource_id for entry in found.references] == ["c"]


@pytest.mark.parametrize(
    ("elements", "expression"),
    [
        ({"code": "text"}, "Observation.code"),
        ({"effectiveDateTime": "yesterday"}, "Observation.effective"),
        ({"valueQuantity": {"value": "many"}}, "(Observation.value as Quantity)"),
        ({"subject": ["Patient/1"]}, "Observation.subject"),
        ({"category": {"coding": []}}, "Observation.category"),
    ],
)
def test_a_shape_that_cannot_be_indexed_is_refused_with_its_path(
    index: Any, elements: dict[str, Any], expression: str
) -> None:
    with pytest.raises(InvalidResource) as refused:
        index(observation(**elements))
    assert any(str(issue.expression).startswith(expression) for issue in refused.value.issues)
    assert "Patient/1" not in str(refused.value.issues)


def test_an_empty_resource_of_every_type_can_be_indexed(
    indexer: Indexer, parameters: SearchParameters
) -> None:
    assert len(parameters.resource_types) > 140
    for resource_type in parameters.resource_types:
        indexer.index({"resourceType": resource_type, "id": "1"})


def test_a_type_without_parameters_has_no_entries(indexer: Indexer) -> None:
    assert indexer.index({"resourceType": "Nothing"}) == IndexEntries()


def test_an_expression_that_does_not_fit_its_type_is_refused(element_types: ElementTypes) -> None:
    odd = SearchParameter("Patient", "x", SearchType.TOKEN, "Patient.nothing", "http://x")
    indexer = Indexer(derive([odd]), element_types, "UTC")
    with pytest.raises(FhirPathError):
        indexer.check(odd)


def test_a_literal_in_a_parameter_is_never_code(element_types: ElementTypes) -> None:
    text = "Patient.telecom.where(system='\\'] or __import__(\"os\") #').value"
    odd = SearchParameter("Patient", "x') or y('", SearchType.STRING, text, "http://x")
    indexer = Indexer(derive([odd]), element_types, "UTC")
    telecom = [{"system": '\'] or __import__("os") #', "value": "V"}]
    found = indexer.index(patient(telecom=telecom))
    assert found.strings == (StringEntry("x') or y('", "v", "V"),)
