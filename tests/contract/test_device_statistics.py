"""A manufacturer learns how much its devices measure, and of nobody what."""

import json

import pytest

from fhir_server.core import operation_input
from fhir_server.errors import Forbidden, InvalidRequest
from fhir_server.interactions.operation import Invocation
from fhir_server.operations.device_statistics import FEWEST_PATIENTS, device_statistics
from tests.contract.access import PATIENT, Doors, observation, principal

MAKER = principal(
    "system",
    "system/*.rs",
    client_id="maker",
    roles=frozenset({"manufacturer=Organization/maker"}),
)


def told(driver, ctx, **inputs):
    params = operation_input.of_params(tuple(inputs.items()))
    call = Invocation("Device", None, params)
    found = json.loads(driver.run(device_statistics(ctx, call)))
    return {each["name"]: each["valueInteger"] for each in found["parameter"]}


def device(name, owner, kind="cuff"):
    return {
        "resourceType": "Device",
        "id": name,
        "owner": {"reference": f"Organization/{owner}"},
        "type": {"coding": [{"system": "urn:k", "code": kind}]},
    }


def measured(name, patient, device_name, month="2024-03"):
    return observation(
        name,
        patient,
        device={"reference": f"Device/{device_name}"},
        effectiveDateTime=f"{month}-10T10:00:00Z",
    )


@pytest.fixture
def doors(driver, indexer):
    driver.write(device("d1", "maker"), device("d2", "maker", "scale"), device("d3", "other"))
    driver.write(*({"resourceType": "Patient", "id": f"p{n}"} for n in range(9)))
    for number in range(FEWEST_PATIENTS):
        driver.write(measured(f"a{number}", f"p{number}", "d1"))
        driver.write(measured(f"b{number}", f"p{number}", "d1", "2024-04"))
    driver.write(measured("c", "p0", "d1"), measured("d", "p0", "d2"), measured("e", "p8", "d3"))
    return Doors(driver, indexer)


def test_numbers_are_rounded_so_that_differences_of_few_do_not_show(driver, doors):
    driver.write(*(measured(f"f{n}", "p0", "d1") for n in range(8)))
    ctx = doors.ctx(MAKER)
    assert told(driver, ctx, month="2024-03")["observations"] == 15
    assert told(driver, ctx, month="2024-03", type="urn:k|cuff")["observations"] == 10


def test_numbers_are_of_ones_own_devices_in_that_month(driver, doors):
    ctx = doors.ctx(MAKER)
    assert told(driver, ctx, month="2024-03") == {
        "devices": 2,
        "patients": FEWEST_PATIENTS,
        "observations": FEWEST_PATIENTS,
    }
    assert told(driver, ctx, month="2024-03", type="urn:k|cuff") == {
        "devices": 1,
        "patients": FEWEST_PATIENTS,
        "observations": FEWEST_PATIENTS,
    }


def test_nothing_is_told_of_few_patients(driver, doors):
    ctx = doors.ctx(MAKER)
    assert told(driver, ctx, month="2024-03", type="urn:k|scale") == {"devices": 1}
    assert told(driver, ctx, month="2024-05") == {"devices": 2}


def test_what_was_measured_is_not_seen(driver, doors):
    store = doors.ctx(MAKER).store
    for text in ("Observation", "Patient", "Observation?device=Device/d1", "DeviceUseStatement"):
        assert not driver.run(store.search(driver.query(text))).versions
    assert len(driver.run(store.search(driver.query("Device"))).versions) == 2


def test_for_a_patient_the_numbers_are_of_their_own(driver, doors):
    assert told(driver, doors.ctx(PATIENT), month="2024-03") == {"devices": 0}


def test_a_month_is_needed_and_a_scope(driver, doors):
    for month in ("2024", "2024-03-01", "2024-13", "ge2024-03"):
        with pytest.raises(InvalidRequest):
            told(driver, doors.ctx(MAKER), month=month)
    with pytest.raises(InvalidRequest):
        told(driver, doors.ctx(MAKER))
    with pytest.raises(Forbidden):
        told(driver, doors.ctx(principal("system", "system/Patient.rs")), month="2024-03")
