"""The rules of R4, and resources that keep all of them."""

from pathlib import Path

import pytest

from fhir_server import definitions
from fhir_server.core import resource_json
from fhir_server.core.validation.structure import StructureValidator

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.json"))


@pytest.fixture(scope="session")
def rules():
    return definitions.load_type_rules()


@pytest.fixture(scope="session")
def validator(rules):
    return StructureValidator(rules)


@pytest.fixture(scope="session")
def examples():
    """Valid resources by the name of their file. Copy before you change one."""
    return {path.stem: resource_json.parse_resource(path.read_bytes()) for path in EXAMPLES}
