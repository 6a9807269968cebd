"""The parts of a composite match within one element."""

from typing import Any

import pytest

from tests.unit.search.searched import Find, amount, coded, observation


def component(code: str, value: str) -> dict[str, Any]:
    return {"code": coded(("s", code)), "valueQuantity": amount(value, "mm[Hg]")}


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("component-code-value-quantity", "s|sys$gt140", "high"),
        ("component-code-value-quantity", "s|dia$gt140", ""),
        ("component-code-value-quantity", "s|sys$gt140,s|dia$80", "high normal"),
        ("component-code-value-quantity", "s|sys$gt140,s|dia$90", "high"),
        ("combo-code-value-quantity", "s|sys$120", "normal flat"),
        ("code-value-quantity", "s|sys$120", "flat"),
        ("code-value-quantity", "s|bp$120", ""),
    ],
)
def test_the_parts_of_a_composite_match_within_one_element(
    find: Find, name: str, text: str, found: str
) -> None:
    observations = [
        observation("high", component=[component("sys", "150"), component("dia", "90")]),
        observation("normal", component=[component("sys", "120"), component("dia", "80")],
                    code=coded(("s", "bp"))),
        observation("flat", code=coded(("s", "sys")), valueQuantity=amount("120", "mm[Hg]")),
    ]  # fmt: skip
    assert find(observations, "Observation", (name, text)) == found.split()


def test_a_part_of_the_whole_resource_goes_with_each_element(find: Find) -> None:
    sequence = {
        "resourceType": "MolecularSequence",
        "id": "m",
        "referenceSeq": {"chromosome": coded(("", "1"))},
        "variant": [{"start": 1, "end": 2}, {"start": 3, "end": 4}],
    }
    name = "chromosome-variant-coordinate"
    assert find([sequence], "MolecularSequence", (name, "1$3$4")) == ["m"]
    assert find([sequence], "MolecularSequence", (name, "1$1$4")) == []
    assert find([sequence], "MolecularSequence", (name, "2$3$4")) == []
