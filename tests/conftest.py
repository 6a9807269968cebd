"""What holds for every test."""

import pytest
from hypothesis import settings

from fhir_server.garbage import collect_rarely, tune_garbage_collection
from tests import read_once

# Eight thousand tests are a million values that stay: the search for garbage among them
# would take a third of their collection.
collect_rarely()
read_once.begin()

# A machine that is busy with something else is no fault of the code.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

# What waits for processes begins first; short modules fill what is left at the end.
_ORDER = ("faults", "contract", "conformance", "unit", "architecture")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    folder = config.rootpath / "tests"
    items.sort(key=lambda item: _ORDER.index(item.path.relative_to(folder).parts[0]))


def pytest_collection_finish() -> None:
    tune_garbage_collection()
