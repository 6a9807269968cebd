"""SearchParameter resources: which can be searched by, and what they become."""

import pytest

from fhir_server.core.search.custom import Refused, SearchExtension
from fhir_server.core.search.entry import StringEntry


@pytest.fixture(scope="module")
def extension(parameters, element_types):
    return SearchExtension(parameters, element_types, "UTC")


def definition(**changes):
    return {
        "resourceType": "SearchParameter",
        "url": "urn:mine",
        "status": "active",
        "code": "nickname",
        "base": ["Patient"],
        "type": "string",
        "expression": "Patient.name.where(use='nickname').given",
        **changes,
    }


def test_a_definition_becomes_a_parameter_with_entries_of_its_own(extension):
    (found,) = extension.read(definition())
    assert (found.resource_type, found.code, found.url) == ("Patient", "nickname", "urn:mine")
    (source,) = found.sources
    assert source.code.startswith("nickname@")
    names = [{"use": "nickname", "given": ["Ванька"]}, {"given": ["Иван"]}]
    live = extension.extend([definition()])
    entries = live.indexer({"resourceType": "Patient", "name": names})
    assert StringEntry(source.code, "ванька", "Ванька") in entries.strings
    assert live.parameters.get("Patient", "nickname") == found


def test_another_meaning_has_other_entries(extension):
    (one,) = extension.read(definition())
    (same,) = extension.read(definition(description="x", url="urn:other"))
    (other,) = extension.read(definition(expression="Patient.name.prefix"))
    assert one.sources == same.sources != other.sources


@pytest.mark.parametrize(
    ("bases", "expression", "expected"),
    [
        (["Patient", "Device"], "Patient.language | Device.language", ["Patient", "Device"]),
        (["Patient", "Device"], "Patient.extension('a|b').value", ["Patient"]),
        (["Resource"], "Resource.language", None),
        (["DomainResource"], "(DomainResource.language)", None),
    ],
)
def test_each_type_has_its_part_of_the_expression(extension, bases, expression, expected):
    code = "word" if "extension" in expression else "lang"
    found = extension.read(definition(base=bases, expression=expression, code=code, type="token"))
    types = [parameter.resource_type for parameter in found]
    assert types == expected if expected else len(types) > 100
    assert all(p.expression.lstrip("(").startswith(p.resource_type) for p in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"code": "a.b"},
        {"code": "a:b"},
        {"code": "a@b"},
        {"code": None},
        {"code": "name"},
        {"code": "_id"},
        {"type": "composite"},
        {"type": "special"},
        {"type": "nonsense"},
        {"base": ["Nonsense"]},
        {"base": []},
        {"expression": None},
        {"expression": "Patient."},
        {"expression": "Patient.nothing"},
        {"expression": "Observation.code"},
        {"expression": "Patient.name.repeat(given)"},
        {"expression": "x" * 5_000},
        {"expression": "Patient" + ".extension" * 300},
    ],
)
def test_what_cannot_be_used_is_refused_and_left_out(extension, changes):
    with pytest.raises(Refused):
        extension.read(definition(**changes))
    (fault,) = extension.faults(definition(**changes))
    assert fault.code == "not-supported"
    assert extension.extend([definition(**changes)]).parameters.get("Patient", "nickname") is None


def test_r4s_own_definitions_stored_here_change_nothing(extension, parameters):
    name = parameters.get("Patient", "family")
    own = definition(code="family", url=name.url, expression=name.expression)
    assert extension.read(own) == ()
