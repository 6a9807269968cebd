"""The data folders are read whole, the shipped ones and the extra ones."""

import re

import pytest

from fhir_server import definitions
from fhir_server.core.search.parameter import SearchType


@pytest.fixture(scope="module")
def loaded():
    return definitions.load()


def test_a_backbone_element_is_a_type_with_its_inherited_elements(loaded):
    names = list(loaded.element_types.elements("Observation.component"))

    assert names[:5] == ["id", "extension", "modifierExtension", "code", "value"]


def test_a_content_reference_is_resolved(loaded):
    element = loaded.element_types.get("Observation.component", "referenceRange")

    assert element is not None
    assert element.types == ("Observation.referenceRange",)
    assert element.is_list


def test_a_choice_knows_its_json_names(loaded):
    element = loaded.element_types.get("Patient", "deceased")

    assert element is not None
    assert dict(element.json_names()) == {
        "deceasedBoolean": "boolean",
        "deceasedDateTime": "dateTime",
    }


def test_the_id_of_a_resource_is_an_id_and_that_of_an_element_a_string(loaded):
    assert loaded.element_types.elements("Patient")["id"].types == ("id",)
    assert loaded.element_types.elements("HumanName")["id"].types == ("string",)


def test_every_element_is_of_a_known_type(loaded):
    primitives = re.compile(r"[a-z]\w*")
    for rule in loaded.validator.resource_types:
        for element in loaded.element_types.elements(rule).values():
            for name in element.types:
                is_known = primitives.fullmatch(name) or loaded.element_types.elements(name)
                assert is_known, (rule, element.name, name)


def test_every_type_has_the_parameters_of_all_types(loaded):
    for resource_type in loaded.validator.resource_types:
        own = loaded.parameters.for_type(resource_type)
        assert {"_id", "_lastUpdated", "_tag", "_profile", "_security", "_source"} <= own.keys()
        assert own["_id"].expression == f"{resource_type}.id"


def test_a_parameter_says_only_what_is_about_its_type(loaded):
    parameter = loaded.parameters.get("Observation", "code")

    assert parameter is not None
    assert parameter.expression == "Observation.code"
    for resource_type in loaded.validator.resource_types:
        for found in loaded.parameters.for_type(resource_type).values():
            roots = re.findall(r"(?:^|\| )\(*(\w+)", found.expression)
            assert set(roots) == {resource_type}, found


def test_a_composite_keeps_its_components(loaded):
    parameter = loaded.parameters.get("Observation", "code-value-date")

    assert parameter is not None
    assert parameter.type is SearchType.COMPOSITE
    assert [c.expression for c in parameter.components] == [
        "code",
        "value.as(dateTime) | value.as(Period)",
    ]


def test_the_parameters_of_compartments_exist(loaded):
    for kind in loaded.compartments.types:
        for resource_type in loaded.compartments.resource_types(kind):
            for code in loaded.compartments.parameters(kind, resource_type):
                assert loaded.parameters.get(resource_type, code), (kind, resource_type, code)


def test_an_extra_folder_comes_after_the_shipped_one(tmp_path):
    loaded = definitions.load(mappings=[tmp_path])

    assert loaded.mapping_folders[-1] == tmp_path
    assert loaded.profile_folders == (definitions.shipped_folder("profiles"),)


def test_an_extra_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no folder"):
        definitions.load(terminology=[tmp_path / "gone"])


def make_mapping(folder, text="kind: x"):
    (folder / "examples").mkdir(parents=True)
    (folder / "mapping.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_mapping_is_read_with_its_examples(tmp_path):
    folder = make_mapping(tmp_path / "scale")
    (folder / "payload.schema.json").write_text("{}")
    (folder / "examples" / "one.payload.json").write_text('{"a": 1}')
    (folder / "examples" / "one.expected.json").write_text("[]")
    (folder / "examples" / "two.payload.json").write_text("{}")
    (tmp_path / "no-mapping").mkdir()

    found = definitions.read_mapping_files([tmp_path])

    assert list(found) == ["scale"]
    assert found["scale"].mapping_text == "kind: x"
    assert found["scale"].payload_schema_text == "{}"
    assert found["scale"].path.endswith("mapping.yaml")
    assert found["scale"].examples == (("one", '{"a": 1}', "[]"), ("two", "{}", None))


def test_a_later_folder_replaces_a_mapping_of_the_same_name(tmp_path):
    make_mapping(tmp_path / "a" / "scale", "first")
    make_mapping(tmp_path / "b" / "scale", "second")

    found = definitions.read_mapping_files([tmp_path / "a", tmp_path / "b"])

    assert found["scale"].mapping_text == "second"


def test_a_folder_that_is_itself_a_mapping_is_read(tmp_path):
    found = definitions.read_mapping_files([make_mapping(tmp_path / "scale")])

    assert list(found) == ["scale"]


def test_an_unreadable_mapping_leaves_the_others(tmp_path):
    make_mapping(tmp_path / "good")
    (make_mapping(tmp_path / "bad") / "mapping.yaml").write_bytes(b"\xff\xfe")

    found = definitions.read_mapping_files([tmp_path])

    assert found["good"].unreadable == ""
    assert "bad" in found["bad"].unreadable
    assert found["bad"].mapping_text == ""
