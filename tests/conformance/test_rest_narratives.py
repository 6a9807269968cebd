"""A narrative that acts is taken in no way, also where validation only warns."""

import pytest
import requests

from tests.conformance.conftest import Server

HARMFUL = '<div xmlns="http://www.w3.org/1999/xhtml"><script>steal()</script></div>'
HANDLER = '<div xmlns="http://www.w3.org/1999/xhtml" onclick="steal()">x</div>'
BROKEN = "<div><img src=x onerror=steal()></div>"
PLAIN = '<div xmlns="http://www.w3.org/1999/xhtml"><p>Formatted <b>text</b></p></div>'
JSON = {"Content-Type": "application/fhir+json"}


@pytest.fixture(scope="module")
def lenient():
    with Server(validation="warn", plan_templates=False) as running:
        yield running.fhir


def patient(div, **more):
    return {"resourceType": "Patient", "text": {"status": "generated", "div": div}, **more}


def transaction(resource, method="POST", url="Patient"):
    entry = {"resource": resource, "request": {"method": method, "url": url}}
    return {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}


def stored(fhir, name):
    return requests.put(f"{fhir}/Patient/{name}", json=patient(PLAIN, id=name), timeout=10)


@pytest.mark.parametrize("div", [HARMFUL, HANDLER, BROKEN])
def test_no_create_or_update_stores_it(lenient, div):
    stored(lenient, "known")
    for answer in (
        requests.post(f"{lenient}/Patient", json=patient(div), timeout=10),
        requests.put(f"{lenient}/Patient/known", json=patient(div, id="known"), timeout=10),
        requests.put(f"{lenient}/Patient/new", json=patient(div, id="new"), timeout=10),
        requests.put(f"{lenient}/Patient?identifier=x", json=patient(div), timeout=10),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.json()["issue"][0]["expression"] == ["Patient.text.div"]
    assert "steal" not in requests.get(f"{lenient}/Patient/known/_history", timeout=10).text


def test_no_bundle_stores_it(lenient):
    for bundle in (
        transaction(patient(HARMFUL)),
        transaction(patient(HARMFUL, id="new"), "PUT", "Patient/new"),
        {**transaction(patient(HARMFUL)), "type": "batch"},
    ):
        answer = requests.post(lenient, json=bundle, timeout=10)
        refused = answer.json().get("entry", [{}])[0].get("response", {}).get("status", "")
        assert answer.status_code == 422 or refused.startswith("422"), answer.text
    kept = requests.post(f"{lenient}/Bundle", json=transaction(patient(HARMFUL)), timeout=10)
    assert kept.status_code == 422


def test_no_patch_brings_it_in(lenient):
    stored(lenient, "patched")
    url = f"{lenient}/Patient/patched"
    patch = [{"op": "replace", "path": "/text/div", "value": HANDLER}]
    headers = {"Content-Type": "application/json-patch+json"}
    assert requests.patch(url, json=patch, headers=headers, timeout=10).status_code == 422
    parts = [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": "Patient.text.div"},
        {"name": "value", "valueString": HANDLER},
    ]
    fhir = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": parts}]}
    assert requests.patch(url, json=fhir, headers=JSON, timeout=10).status_code in (400, 422)
    assert "steal" not in requests.get(url, timeout=10).text


@pytest.mark.parametrize(
    "more",
    [
        {"contained": [patient(HARMFUL, id="c")]},
        {"text": {"div": [HARMFUL]}},
        {"unheard": {"of": [{"div": HANDLER}]}},
    ],
)
def test_it_does_not_hide_where_nobody_looks(lenient, more):
    resource = {"resourceType": "Patient", **more}
    answer = requests.post(f"{lenient}/Patient", json=resource, timeout=10)
    assert answer.status_code in (400, 422)


def test_xml_brings_it_in_no_better(lenient):
    text = f'<text><status value="generated"/>{HARMFUL}</text>'
    body = f'<Patient xmlns="http://hl7.org/fhir">{text}</Patient>'
    headers = {"Content-Type": "application/fhir+xml"}
    answer = requests.post(f"{lenient}/Patient", data=body, headers=headers, timeout=10)
    assert answer.status_code in (400, 422)


def test_what_does_not_act_is_stored_with_a_warning_for_the_rest(lenient):
    answer = requests.post(
        f"{lenient}/Patient", json=patient(PLAIN, gender="unheard of"), timeout=10
    )
    assert answer.status_code == 201
