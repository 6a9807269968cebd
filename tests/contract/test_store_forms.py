"""What is put as a form is stored, found and checked as what is put as a resource."""

from decimal import Decimal

import pytest

from fhir_server.core import resource_json
from fhir_server.core.form import Form
from fhir_server.core.identity import ResourceKey
from fhir_server.core.version import next_version

GAPS = (
    (("identifier", 0, "value"),),
    (("subject", "reference"), ("performer", 0, "reference")),
    (("device", "reference"),),
    (("effectiveDateTime",),),
    (("component", 0, "valueQuantity", "value"),),
)
UCUM = {"system": "http://unitsofmeasure.org", "code": "mm[Hg]", "unit": "mmHg"}
SEARCHES = (
    "Observation?identifier=urn:x|n4",
    "Observation?patient=Patient/p1&code=http://loinc.org|85354-9&date=ge2024-01-03&_sort=-date",
    "Observation?device=Device/d1&_sort=date",
    "Observation?performer=Patient/p0",
    "Observation?_profile=http://hl7.org/fhir/StructureDefinition/bp",
    "Observation?_content=pressure",
    "Observation?code:text=blood",
    "Observation?component-code-value-quantity=http://loinc.org|8480-6$gt122",
    "Observation?component-value-quantity=124||mm[Hg]",
    "Observation?category=vital-signs&status=final",
    "Observation?_content=n4",
)


def observation(number):
    patient = {"reference": f"Patient/p{number % 2}"}
    return {
        "resourceType": "Observation",
        "meta": {"profile": ["http://hl7.org/fhir/StructureDefinition/bp"]},
        "identifier": [{"system": "urn:x", "value": f"n{number}"}],
        "status": "final",
        "category": [{"coding": [{"system": "urn:category", "code": "vital-signs"}]}],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": "85354-9"}],
            "text": "Blood pressure",
        },
        "subject": patient,
        "performer": [patient],
        "effectiveDateTime": f"2024-01-0{number + 1}T10:00:00Z",
        "device": {"reference": f"Device/d{number % 2}"},
        "component": [
            {
                "code": {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]},
                "valueQuantity": {"value": Decimal(120 + number), **UCUM},
            }
        ],
    }


def values(number):
    patient, device = f"Patient/p{number % 2}", f"Device/d{number % 2}"
    when = f"2024-01-0{number + 1}T10:00:00Z"
    return f"n{number}", patient, device, when, Decimal(120 + number)


@pytest.fixture
def mixed(driver):
    """Observations of which every other one is put as a form, in one commit and another."""
    form = Form(observation(0), GAPS)

    def decide(tx, numbers):
        for number in numbers:
            key = ResourceKey("Observation", f"o{number}")
            plain = next_version(None, key, observation(number), tx.now)
            put = form.create(key, tx.now, values(number)) if number % 3 else plain
            assert put[0] == plain[0]
            tx.put(*put)
            # What waits is found before it is written.
            assert tx.find("Observation", [("urn:x", f"n{number}")])
        return tx.find("Observation", [(None, "n1"), ("urn:x", "n0")])

    found = driver.commit(lambda tx: decide(tx, range(5)))
    assert found[None, "n1"] == (ResourceKey("Observation", "o1"),)
    driver.commit(lambda tx: decide(tx, range(5, 8)))
    return driver


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_finds_forms_as_it_finds_resources(mixed, search):
    found = mixed.ids(search)
    # The same resources again, each put as a resource.
    mixed.write(*({**observation(n), "id": f"o{n}"} for n in range(8)))
    assert mixed.ids(search) == found
    assert bool(found) != search.endswith("_content=n4")


def test_a_form_gives_the_bytes_of_its_resource(mixed):
    version = mixed.read(ResourceKey("Observation", "o4"))
    assert version.body == resource_json.format(version.resource())
    expected = {**observation(4), "id": "o4"}
    assert {k: v for k, v in version.resource().items() if k != "meta"} == {
        k: v for k, v in expected.items() if k != "meta"
    }


def test_a_check_of_the_store_finds_nothing_wrong_with_forms(mixed):
    assert not mixed.store.check().faults


def test_a_form_that_is_updated_is_superseded(mixed):
    changed = {**observation(4), "id": "o4", "status": "amended"}
    mixed.write(changed)
    assert mixed.ids("Observation?status=amended") == ["o4"]
    assert "o4" not in mixed.ids("Observation?status=final")
    assert not mixed.store.check().faults
