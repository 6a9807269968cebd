"""`_text` and `_content`: which words a resource has, and what a word query asks."""

import pytest

from fhir_server.core.search.words import TextReader, words


@pytest.fixture(scope="module")
def texts(element_types):
    reader = TextReader(element_types)

    def read(resource):
        return {entry.parameter: entry.words for entry in reader.entries(resource)}

    return read


def test_words_are_folded_letters_and_digits():
    assert words("Müller-Иванов, 5.4 mmol/L  (ЁЖ)") == [
        "muller", "иванов", "5", "4", "mmol", "l", "еж",
    ]  # fmt: skip


def test_the_narrative_is_read_without_its_markup(texts):
    found = texts(
        {
            "resourceType": "Patient",
            "text": {
                "div": '<div class="hidden"><!-- secret --><p>Tall &amp; <b>b</b>old</p></div>'
            },
        }
    )
    assert found == {"_text": ("b", "old", "tall"), "_content": ("b", "old", "tall")}


def test_content_is_every_text_and_no_code_id_or_identifier(texts):
    found = texts(
        {
            "resourceType": "Observation",
            "id": "someid",
            "identifier": [{"system": "urn:sys", "value": "serial"}],
            "status": "final",
            "code": {"coding": [{"system": "urn:c", "code": "c1", "display": "Glucose"}]},
            "subject": {"reference": "Patient/p1", "display": "Anna"},
            "note": [{"text": "fasting", "time": "2024-01-01"}],
            "valueString": "high",
            "extension": [{"url": "urn:e", "valueString": "extended"}],
            "contained": [{"resourceType": "Patient", "name": [{"given": ["Inner", None]}]}],
        }
    )
    assert found == {"_content": ("anna", "extended", "fasting", "glucose", "high", "inner")}


@pytest.mark.parametrize(
    "odd",
    [
        {"text": "x"},
        {"text": {"div": 5}},
        {"note": "x"},
        {"note": [None, 5, "x"]},
        {"contained": [{"resourceType": 5}, {}]},
        {"valueString": ["x", None]},
    ],
)
def test_what_has_another_shape_has_no_words_and_no_error(texts, odd):
    assert set(texts({"resourceType": "Observation", **odd})) <= {"_content"}


def test_a_resource_that_says_nothing_has_no_entry(texts):
    assert texts({"resourceType": "Patient", "gender": "male"}) == {}


NOTES = [
    {"resourceType": "Observation", "id": i, "note": [{"text": text}]}
    for i, text in [("1", "bone metastases"), ("2", "liver"), ("3", "liver metastases, left")]
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("metastases", ["1", "3"]),
        ("Metast*", ["1", "3"]),
        ("metast", []),
        ("liver metastases", ["3"]),
        ("(bone OR liver) and metastases", ["1", "3"]),
        ("bone or liver metastases", ["1", "3"]),
        ("NOT metastases", ["2"]),
        ("liver NOT (left OR right)", ["2"]),
        ("bone,left", ["1", "3"]),
        ("left-handed", []),
        ("zzz", []),
    ],
)
def test_a_word_query_finds(find, query, expected):
    assert find(NOTES, "Observation", ("_content", query)) == expected


def test_words_are_found_at_the_end_of_a_chain(find):
    patient = {"resourceType": "Patient", "id": "p", "name": [{"text": "Anna"}]}
    observation = {
        "resourceType": "Observation", "id": "o", "subject": {"reference": "Patient/p"},
    }  # fmt: skip
    found = find([patient, observation], "Observation", ("subject:Patient._content", "anna"))
    assert found == ["o"]
