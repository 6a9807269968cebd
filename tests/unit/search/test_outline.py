"""Outlines: a form's entries are those of its resources, whatever its gaps and parameters."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.core import resource_json
from fhir_server.core.element_types import ElementTypes
from fhir_server.core.form import Form, Gap
from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.custom import SearchExtension
from fhir_server.core.search.entry import StringEntry
from fhir_server.core.search.index import Indexer
from fhir_server.core.search.outline import OutlinedEntries
from fhir_server.core.search.parameter import SearchParameters

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OBSERVATION = {
    "resourceType": "Observation",
    "identifier": [{"system": "urn:x", "value": "1"}, {"system": "urn:y", "value": "2"}],
    "status": "final",
    "code": {"coding": [{"system": "urn:c", "code": "a", "display": "A thing"}]},
    "subject": {"reference": "Patient/p", "identifier": {"system": "urn:z", "value": "3"}},
    "effectivePeriod": {"start": "2024-01-01T10:00:00Z", "end": "2024-01-01T11:00:00Z"},
    "note": [{"text": "said so"}],
    "component": [
        {
            "code": {"coding": [{"system": "urn:c", "code": "a", "display": "A thing"}]},
            "valueQuantity": {"value": Decimal(5), "code": "mg"},
        }
    ],
}
IDENTIFIERS: Gap = (("identifier", 0, "value"),)
SECOND: Gap = (("identifier", 1, "value"),)
SUBJECT: Gap = (("subject", "reference"),)
VALUE: Gap = (("component", 0, "valueQuantity", "value"),)
NOTE: Gap = (("note", 0, "text"),)
DISPLAYS: Gap = (
    ("code", "coding", 0, "display"),
    ("component", 0, "code", "coding", 0, "display"),
)
START: Gap = (("effectivePeriod", "start"),)
BOTH_ENDS: tuple[Gap, ...] = (START, (("effectivePeriod", "end"),))


def check(
    indexer: Indexer, gaps: tuple[Gap, ...], *fillings: tuple[str | Decimal, ...]
) -> set[bool]:
    """Each filling is indexed as the resource it makes; whether by an outline."""
    form = Form(OBSERVATION, gaps)
    by_outline = set()
    for number, values in enumerate(fillings):
        version, filled = form.create(ResourceKey("Observation", f"o{number}"), NOW, values)
        assert version.body == resource_json.format(filled.resource())
        entries, posted = indexer(filled), indexer.index(version.resource())
        assert entries == posted
        if is_outlined := isinstance(entries, OutlinedEntries):
            for kind, shared, own in zip(entries, entries.outline.shared, entries.own, strict=True):
                assert set(kind) == {*shared, *own}
                assert len(kind) == len(shared) + len(own)
        by_outline.add(is_outlined)
    return by_outline


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(deadline=None)
@given(st.lists(st.tuples(texts, texts, texts, st.decimals(-99, 99, places=2)), min_size=1))
def test_whatever_fills_the_gaps_is_indexed_as_if_it_were_posted(
    indexer: Indexer, fillings: list[tuple[str, str, str, Decimal]]
) -> None:
    assert check(indexer, (IDENTIFIERS, SECOND, SUBJECT, VALUE), *fillings) == {True}


def test_two_gaps_that_are_filled_alike_say_it_once(indexer: Indexer) -> None:
    twice: Gap = (("identifier", 0, "system"), ("identifier", 1, "system"))
    both: Gap = (("identifier", 0, "value"), ("identifier", 1, "value"))
    assert check(indexer, (both,), ("same",), ("other",)) == {True}
    # Two gaps in one element: there is no outline, and nothing is lost.
    assert check(indexer, (twice, both), ("urn:x", "same"), ("urn:y", "other")) == {False}


def test_a_text_that_is_a_gap_is_found_by_its_words(indexer: Indexer) -> None:
    assert check(indexer, (NOTE,), ("first words",), ("others",)) == {False}


def test_a_display_that_is_a_gap_is_read_deep_within(indexer: Indexer) -> None:
    assert check(indexer, (DISPLAYS,), ("Thing A",), ("Thing B",)) == {False}


def test_one_end_of_a_period_can_be_a_gap_and_both_cannot(indexer: Indexer) -> None:
    assert check(indexer, (START,), ("2023-01-01",), ("2024-01-01T09:00:00Z",)) == {True}
    assert check(indexer, BOTH_ENDS, ("2023-01-01", "2023-01-02"), ("2024", "2025")) == {False}


def added(
    parameters: SearchParameters, element_types: ElementTypes, expression: str, kind: str
) -> Indexer:
    definition: dict[str, Any] = {
        "resourceType": "SearchParameter",
        "url": "https://pmp.example/fhir/SearchParameter/added",
        "status": "active",
        "code": "added",
        "base": ["Observation"],
        "type": kind,
        "expression": expression,
    }
    extension = SearchExtension(parameters, element_types, "Europe/Moscow")
    extended = extension.extend([definition]).indexer
    assert isinstance(extended, Indexer)
    return extended


def test_an_added_parameter_that_reads_a_gap_follows_it(
    parameters: SearchParameters, element_types: ElementTypes
) -> None:
    indexer = added(parameters, element_types, "Observation.identifier.value", "string")
    assert check(indexer, (IDENTIFIERS,), ("first",), ("second",)) == {True}
    form = Form(OBSERVATION, (IDENTIFIERS,))
    _, filled = form.create(ResourceKey("Observation", "o"), NOW, ("Third",))
    assert {s.folded for s in indexer(filled).strings if isinstance(s, StringEntry)} >= {"third"}


def test_a_condition_that_may_look_at_a_gap_is_asked_each_time(
    parameters: SearchParameters, element_types: ElementTypes
) -> None:
    expression = "Observation.identifier.where(value = 'first').system"
    indexer = added(parameters, element_types, expression, "uri")
    assert indexer.index(OBSERVATION | {"identifier": [{"system": "urn:x", "value": "first"}]}).uris
    fillings = (("first", Decimal(4)), ("second", Decimal(6)), ("third", Decimal(5)))
    assert check(indexer, (IDENTIFIERS, VALUE), *fillings) == {False}


def test_two_indexes_of_one_form_do_not_mix(
    indexer: Indexer, parameters: SearchParameters, element_types: ElementTypes
) -> None:
    other = added(parameters, element_types, "Observation.identifier.value", "string")
    form = Form(OBSERVATION, (IDENTIFIERS,))
    _, filled = form.create(ResourceKey("Observation", "o"), NOW, ("x",))
    assert len(other(filled).strings) == len(indexer(filled).strings) + 2
