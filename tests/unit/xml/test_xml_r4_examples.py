"""Every example that R4 publishes goes to XML and comes back the same, digit by digit."""

import os
import tarfile
from pathlib import Path

import pytest

from fhir_server import definitions
from fhir_server.core import resource_json, resource_xml

PACKED = Path(__file__).parents[2] / "r4_examples" / "examples.tar.xz"
# The whole package, if whoever runs this has it.
ARCHIVES = [PACKED, *map(Path, filter(None, [os.environ.get("FHIR_SERVER_R4_EXAMPLES")]))]
TYPES = definitions.load_element_types()


def files(archive):
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rpartition("/")[2]
            if member.isfile() and name[:1].isupper() and name.endswith(".json"):
                yield name, tar.extractfile(member).read()


def changed(archive, *, is_pretty):
    found = []
    for name, body in files(archive):
        resource = resource_json.parse_incoming_resource(body)
        written = resource_xml.format(resource, TYPES, is_pretty=is_pretty)
        back = resource_xml.parse(written, TYPES)
        if resource_json.format_sorted(back) != resource_json.format_sorted(resource):
            found.append(name)
    return found


def test_there_are_examples_of_most_types():
    types = {name.removesuffix(".json").partition("-")[0] for name, _ in files(PACKED)}
    assert len(types) > 100


@pytest.mark.parametrize("is_pretty", [False, True])
@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_an_example_comes_back_from_xml_as_it_was(archive, is_pretty):
    assert changed(archive, is_pretty=is_pretty) == []
