"""`_elements` and `_summary`: https://hl7.org/fhir/R4/search.html#summary."""

import json

import pytest

from fhir_server.core.subset import Part, subset
from fhir_server.definitions import load

TYPES = load().element_types
OBSERVATION = {
    "resourceType": "Observation",
    "id": "1",
    "meta": {"versionId": "1", "tag": [{"code": "mine"}]},
    "implicitRules": "urn:rules",
    "text": {"status": "generated", "div": "<div/>"},
    "modifierExtension": [{"url": "urn:x", "valueBoolean": True}],
    "status": "final",
    "_status": {"extension": [{"url": "urn:x", "valueBoolean": True}]},
    "code": {"text": "x"},
    "effectiveDateTime": "2024-01-01",
    "_effectiveDateTime": {"id": "e"},
    "valueQuantity": {"value": 1},
    "note": [{"text": "long"}],
    "component": [{"code": {"text": "y"}, "valueString": "z", "interpretation": [{"text": "i"}]}],
}
REQUIRED = {
    "resourceType",
    "id",
    "meta",
    "implicitRules",
    "modifierExtension",
    "status",
    "_status",
    "code",
}


def keep(part, resource=OBSERVATION):
    return json.loads(subset(json.dumps(resource).encode(), part, TYPES))


@pytest.mark.parametrize(
    "name", ["effective", "effective[x]", "effectiveDateTime", "Observation.effective"]
)
def test_choice_is_named_with_and_without_its_type(name):
    assert set(keep(Part(frozenset({name})))) == REQUIRED | {
        "effectiveDateTime",
        "_effectiveDateTime",
    }


def test_unknown_element_keeps_only_what_is_required():
    assert set(keep(Part(frozenset({"nonsense"})))) == REQUIRED


def test_text_summary_keeps_narrative_and_what_is_required():
    assert set(keep(Part(summary="text"))) == REQUIRED | {"text"}


def test_data_summary_drops_narrative_alone():
    assert set(keep(Part(summary="data"))) == set(OBSERVATION) - {"text"}


def test_summary_keeps_summary_elements_at_every_level():
    kept = keep(Part(summary="true"))
    assert "note" not in kept
    assert "valueQuantity" in kept
    assert kept["component"] == [{"code": {"text": "y"}, "valueString": "z"}]


@pytest.mark.parametrize("part", [Part(frozenset({"note"})), Part(summary="data")])
def test_subset_is_marked_beside_the_tags_there_are(part):
    tags = [tag["code"] for tag in keep(part)["meta"]["tag"]]
    assert tags == ["mine", "SUBSETTED"]


def test_digits_of_decimals_are_kept():
    body = b'{"resourceType":"Observation","valueQuantity":{"value":1.50}}'
    assert b'"value":1.50' in subset(body, Part(frozenset({"value"})), TYPES)
