"""Codes that are not listed: value sets, subsumption, and systems that bindings imply."""

import pytest

from fhir_server.core.search.parse import parse
from fhir_server.core.search.query import TokenValue
from fhir_server.core.terminology.terminology import NotLoaded, Terminology
from fhir_server.definitions import load
from fhir_server.errors import InvalidSearch
from tests.unit.search.conftest import NOW

GENDER = "http://hl7.org/fhir/administrative-gender"


@pytest.fixture(scope="module")
def definitions():
    return load()


@pytest.fixture
def clause(definitions):
    def read(resource_type, name, value, terminology=None):
        query = parse(
            resource_type,
            [(name, value)],
            definitions.parameters,
            base_url="http://here/fhir",
            time_zone="UTC",
            now=NOW,
            max_page_size=10,
            default_page_size=10,
            strict=True,
            terminology=terminology or definitions.terminology,
        ).query
        (found,) = query.criteria
        return found

    return read


def test_a_code_is_found_with_the_system_that_its_binding_implies(clause):
    assert TokenValue("", "male") in clause("Patient", "gender", f"{GENDER}|male").values
    assert clause("Patient", "gender", "urn:other|male").values == (
        TokenValue("urn:other", "male"),
    )
    assert TokenValue("", None) in clause("Patient", "gender", f"{GENDER}|").values


def test_a_concept_implies_no_system(clause):
    system = "urn:ietf:bcp:47"
    assert clause("Patient", "language", f"{system}|ru").values == (TokenValue(system, "ru"),)


def test_a_value_set_of_r4_is_known_from_the_start(clause):
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    found = clause("Patient", "gender:in", url)
    assert {TokenValue("", code) for code in ("male", "female", "other", "unknown")} <= set(
        found.values
    )
    assert clause("Patient", "gender:not-in", url).modifier == "not"


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("code:in", "urn:mine", ("ValueSet", "urn:mine")),
        ("code:in", "http://here/fhir/ValueSet/7", ("ValueSet", "ValueSet/7")),
        ("code:not-in", "urn:mine|2", ("ValueSet", "urn:mine|2")),
        ("code:below", "urn:sys|a", ("CodeSystem", "urn:sys")),
        ("_filter", "code in urn:mine", ("ValueSet", "urn:mine")),
        ("subject:Patient.gender:in", "urn:mine", ("ValueSet", "urn:mine")),
        ("_has:Observation:has-member:code:in", "urn:mine", ("ValueSet", "urn:mine")),
    ],
)
def test_what_may_be_stored_here_is_asked_for(clause, name, value, wanted):
    with pytest.raises(NotLoaded) as missing:
        clause("Observation", name, value, Terminology())
    assert (missing.value.resource_type, missing.value.url) == wanted
    with pytest.raises(InvalidSearch) as refused:
        clause("Observation", name, value, Terminology().having(missing.value, None))
    assert not isinstance(refused.value, NotLoaded)


def test_below_and_above_follow_the_hierarchy(clause):
    system = {
        "resourceType": "CodeSystem",
        "url": "urn:sys",
        "concept": [{"code": "a", "concept": [{"code": "b", "concept": [{"code": "c"}]}]}],
    }
    known = Terminology([system])
    below = clause("Observation", "code:below", "urn:sys|b", known)
    assert below.values == (TokenValue("urn:sys", "b"), TokenValue("urn:sys", "c"))
    above = clause("Observation", "code:above", "urn:sys|b", known)
    assert above.values == (TokenValue("urn:sys", "a"), TokenValue("urn:sys", "b"))
    assert clause("Observation", "_filter", "code ss urn:sys|b", known) == below._replace(
        modifier=""
    )
    with pytest.raises(InvalidSearch):
        clause("Observation", "code:below", "urn:sys|zzz", known)
