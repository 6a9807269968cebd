"""Which versions the registry's sink wants, in which group, and its settings."""

from datetime import UTC, datetime

import pytest

from adapters.national_registry.port import Surroundings
from adapters.national_registry.sink import from_settings
from fhir_server.core import resource_json
from fhir_server.core.identity import ResourceKey
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from fhir_server.core.search.parameter import SearchParameters
from fhir_server.core.version import Version

NOW = datetime(2024, 5, 1, tzinfo=UTC)
KEY = ResourceKey("Observation", "o1")
URL = "https://registry.example/fhir"
NO_COMMIT = None  # nothing here is answered later


class Versions:
    """All versions of one resource, as the outbox reads them."""

    def __init__(self, *bodies):
        self.asked = []
        self.versions = [
            Version(
                KEY,
                index,
                NOW,
                "update" if body else "delete",
                resource_json.format(body) if body else None,
            )
            for index, body in enumerate(bodies, start=1)
        ]

    def __call__(self, key, version_id=None):
        self.asked.append((key, version_id))
        if key != KEY:
            return None
        return self.versions[-1 if version_id is None else version_id - 1]


def reading(value="r1", day="2024-05-01", *, auxiliary=False):
    tag = {
        "system": "https://pmp.example/fhir/CodeSystem/device-standing",
        "code": "auxiliary",
    }
    return {
        "resourceType": "Observation",
        "meta": {"tag": [tag] if auxiliary else []},
        "identifier": [{"system": IDENTIFIER_SYSTEM, "value": value}],
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": f"{day}T08:00:00Z",
    }


def sink(read, **section):
    around = Surroundings(read, lambda *_: None, NO_COMMIT, SearchParameters(()), lambda: NOW)
    return from_settings({"url": URL, **section}, around)


def groups(*bodies, **section):
    read = Versions(*bodies)
    return [sink(read, **section).group(version) for version in read.versions]


DAY = "Patient/p1/2024-05-01"


def test_a_reading_goes_with_its_patients_day():
    assert groups(reading()) == [DAY]


def test_a_first_version_is_sorted_without_a_look_into_the_store():
    read = Versions(reading())
    sink(read).group(read.versions[0])
    assert read.asked == []


def test_a_deletion_goes_with_the_day_of_what_was_deleted():
    assert groups(reading(), None) == [DAY, DAY]


def test_a_deletion_of_what_the_registry_never_had_is_not_wanted():
    assert groups({"resourceType": "Observation"}, None) == [None, None]


def test_a_reading_that_is_not_to_be_sent_any_more_is_wanted_once_to_be_taken_back():
    now_auxiliary = reading(auxiliary=True)
    assert groups(reading(), now_auxiliary, now_auxiliary) == [DAY, DAY, None]


def test_a_revived_reading_is_wanted_again():
    assert groups(reading(), None, reading(day="2024-05-02")) == [DAY, DAY, "Patient/p1/2024-05-02"]


def test_auxiliary_readings_are_wanted_when_configured():
    assert groups(reading(auxiliary=True)) == [None]
    assert groups(reading(auxiliary=True), send_auxiliary=True) == [DAY]


def test_other_resources_are_not_wanted():
    version = Version(ResourceKey("Patient", "p"), 1, NOW, "create", b'{"resourceType":"Patient"}')
    assert sink(Versions()).group(version) is None


def test_nothing_is_sent_when_there_is_nothing_to_tell():
    read = Versions(reading(auxiliary=True), None)
    assert sink(read).deliver(read.versions, "key") == "nothing to tell"


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"url": None}, "url is missing"),
        ({"url": "http://registry.example/"}, "https"),
        ({"url": "https://10.0.0.1/"}, "not public"),
        ({"url": 7}, "url must be a text"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"total_seconds": 3_600}, "total_seconds"),
        ({"read_seconds": "5"}, "read_seconds"),
        ({"send_auxiliary": "yes"}, "send_auxiliary"),
        ({"patient_systems": "urn:x"}, "patient_systems"),
        ({"batchsize": 5}, "unknown settings: batchsize"),
    ],
)
def test_a_wrong_setting_is_named(section, fault):
    with pytest.raises(ValueError, match=fault):
        sink(Versions(), **section)


def test_every_setting_can_be_set():
    configured = sink(
        Versions(),
        token="secret",
        send_auxiliary=True,
        patient_systems=["urn:x"],
        batch_size=7,
        connect_seconds=1,
        read_seconds=2.5,
        total_seconds=10,
    )
    assert (configured.name, configured.batch_size) == ("national-registry", 7)


def test_an_empty_token_is_none():
    sink(Versions(), token="")
