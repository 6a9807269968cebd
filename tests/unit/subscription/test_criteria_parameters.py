"""Every search parameter that R4 defines works as criteria; what is no search is refused."""

from datetime import UTC, datetime

import pytest

from fhir_server.core.identity import ResourceKey
from fhir_server.core.search.parameter import SearchType
from fhir_server.core.subscription_reader import SubscriptionReader
from fhir_server.definitions import load
from fhir_server.errors import InvalidResource

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
VALUES = {
    SearchType.NUMBER: "gt5",
    SearchType.DATE: "ge2024-05-01",
    SearchType.STRING: "x",
    SearchType.TOKEN: "urn:s|x",
    SearchType.REFERENCE: "Patient/p1",
    SearchType.QUANTITY: "lt5.4|http://unitsofmeasure.org|mg",
    SearchType.URI: "urn:x",
}


@pytest.fixture(scope="module")
def reader():
    return SubscriptionReader(load().parameters, base_url="", time_zone="Europe/Moscow")


def read(reader, criteria):
    subscription = {
        "resourceType": "Subscription",
        "status": "requested",
        "reason": "test",
        "criteria": criteria,
        "channel": {"type": "websocket"},
    }
    return reader.parse(ResourceKey("Subscription", "s"), 1, subscription, NOW)


def test_every_parameter_of_every_type_works(reader):
    parameters = load().parameters
    tried = 0
    for resource_type in sorted(parameters.resource_types - {"Subscription"}):
        for code, parameter in parameters.for_type(resource_type).items():
            value = VALUES.get(parameter.type)
            if parameter.type is SearchType.REFERENCE and parameter.targets:
                value = f"{sorted(parameter.targets)[0]}/x1"
            if value is None:
                continue
            found = read(reader, f"{resource_type}?{code}={value}")
            assert found.resource_types == {resource_type}
            read(reader, f"{resource_type}?{code}:missing=true")
            tried += 1
    assert tried > 2_000


@pytest.mark.parametrize(
    "criteria",
    [
        "Observation?_sort=date",
        "Observation?_count=1",
        "Observation?_include=Observation:patient",
        "Observation?_summary=true",
        "Observation?nothing=1",
        "Observation?code:nothing=1",
        "Observation?date=xx2024",
        "Observation?value-quantity=gtx",
        "Observation/42",
        "Observation?code",
        "http://a.example/fhir/Observation?code=1",
        "",
        "?code=1",
    ],
)
def test_what_is_no_search_of_a_type_is_refused(reader, criteria):
    with pytest.raises(InvalidResource) as refused:
        read(reader, criteria)
    assert refused.value.issues
