"""`:above`, `:below`, `_list`, implied systems: what is asked by its place, not by its value."""

import pytest

PLACES = [
    {"resourceType": "Location", "id": "house"},
    {"resourceType": "Location", "id": "ward", "partOf": {"reference": "Location/house"}},
    {"resourceType": "Location", "id": "bed", "partOf": {"reference": "Location/ward"}},
    {"resourceType": "Location", "id": "loop", "partOf": {"reference": "Location/loop"}},
    *(
        {
            "resourceType": "Encounter",
            "id": f"in-{place}",
            "location": [{"location": {"reference": f"Location/{place}"}}],
        }
        for place in ("house", "ward", "bed", "loop")
    ),
]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("location:below", "Location/ward", ["in-ward", "in-bed"]),
        ("location:below", "house", ["in-house", "in-ward", "in-bed"]),
        ("location:above", "Location/ward", ["in-house", "in-ward"]),
        ("location:above", "house,loop", ["in-house", "in-loop"]),
        ("location:below", "nowhere", []),
    ],
)
def test_a_reference_is_found_by_what_it_is_part_of(find, name, value, expected):
    assert find(PLACES, "Encounter", (name, value)) == expected


VALUE_SETS = [
    {"resourceType": "ValueSet", "id": str(n), "url": url}
    for n, url in enumerate(
        ["http://a.example/x", "http://a.example/x/1", "http://a.example/xy", "http://a.example"]
    )
]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("url:below", "http://a.example/x", ["0", "1"]),
        ("url:below", "http://a.example/x/", ["1"]),
        ("url:above", "http://a.example/x/1/2", ["0", "1", "3"]),
        ("url:above", "http://a.example/xyz", ["3"]),
    ],
)
def test_a_url_is_above_what_its_path_begins(find, name, value, expected):
    assert find(VALUE_SETS, "ValueSet", (name, value)) == expected


def test_a_list_has_its_items(find):
    resources = [
        {"resourceType": "Patient", "id": "a"},
        {"resourceType": "Patient", "id": "b"},
        {"resourceType": "List", "id": "l", "entry": [{"item": {"reference": "Patient/b"}}]},
    ]
    assert find(resources, "Patient", ("_list", "l")) == ["b"]
    assert find(resources, "Patient", ("_list", "other")) == []
