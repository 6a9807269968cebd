"""Every search parameter of the types that matter most finds what it says and nothing else.

Resources and queries are generated from R4's definitions; the oracle and every store decide
alike.
"""

from collections.abc import Iterator

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search import match
from fhir_server.core.search.match import Indexed
from tests.contract.sample import Sampler

TYPES = (
    "Patient", "Observation", "Device", "CarePlan", "Goal", "DeviceUseStatement", "Encounter",
    "Condition", "MedicationRequest", "Consent", "Subscription",
)  # fmt: skip
OF_THE_STORE = {"_id", "_lastUpdated"}


@pytest.fixture(scope="module")
def samples(definitions):
    """By type, each sample with the ids of its two resources."""
    sampler = Sampler(definitions.parameters, definitions.element_types)
    found = {}
    for resource_type in TYPES:
        of_type = []
        for code, parameter in definitions.parameters.for_type(resource_type).items():
            if code not in OF_THE_STORE:
                of_type += sampler.samples(parameter)
        found[resource_type] = [
            sample._replace(
                matching={**sample.matching, "id": f"m{n}"}, other={**sample.other, "id": f"o{n}"}
            )
            for n, sample in enumerate(of_type)
        ]
    return found


@pytest.fixture(scope="module")
def filled(store_kind, new_url, make_driver, samples) -> Iterator:
    driver = make_driver(new_url(store_kind))
    for of_type in samples.values():
        driver.write(*(resource for s in of_type for resource in (s.matching, s.other)))
    yield driver
    driver.close()


@pytest.mark.parametrize("resource_type", TYPES)
def test_there_is_a_sample_of_every_parameter(resource_type, samples, definitions):
    codes = set(definitions.parameters.for_type(resource_type)) - OF_THE_STORE
    assert {sample.parameter for sample in samples[resource_type]} == codes


@pytest.mark.parametrize("resource_type", TYPES)
def test_each_parameter_finds_what_matches_and_not_the_other(
    resource_type, samples, filled, indexer
):
    wrong = []
    for sample in samples[resource_type]:
        ids = sample.matching["id"], sample.other["id"]
        query = filled.query(f"{resource_type}?_id={','.join(ids)}&{_encoded(sample.search)}")
        stored = [filled.read(ResourceKey(resource_type, i)) for i in ids]
        world = [Indexed(indexer.index(version.resource()), version) for version in stored]
        decided = {
            "oracle": match.search(query, lambda kind, world=world: world),
            "store": filled.run(filled.store.search(query)).versions,
        }
        for name, versions in decided.items():
            if [version.key.resource_id for version in versions] != [ids[0]]:
                wrong.append((name, sample.search, [v.key.resource_id for v in versions]))
    assert not wrong


@pytest.mark.parametrize("resource_type", TYPES)
def test_a_resource_is_found_by_its_id_and_when_it_was_written(resource_type, filled):
    assert filled.ids(f"{resource_type}?_id=m0") == ["m0"]
    assert filled.ids(f"{resource_type}?_id=none") == []
    assert "m0" in filled.ids(f"{resource_type}?_lastUpdated=2024-05-01&_count=1000")
    assert filled.ids(f"{resource_type}?_lastUpdated=gt2024-05-01") == []


def _encoded(search: str) -> str:
    name, _, value = search.partition("=")
    return f"{name}={value.replace('+', '%2B')}"
