"""What is written comes back as it was written, and what is written twice is refused."""

import pytest

OBSERVATION = (
    '{"resourceType":"Observation","status":"final","code":{"text":"x"},'
    '"valueQuantity":{"value":%s}}'
)
JSON = {"Content-Type": "application/fhir+json"}


@pytest.mark.parametrize("digits", ["0.0000001", "1E-7", "1.50", "1e2", "-0.0", "0.00000"])
def test_a_decimal_keeps_its_digits_in_every_format(client, digits):
    made = client.send("POST", "Observation", data=OBSERVATION % digits, headers=JSON)
    assert made.status_code == 201, made.text
    path = f"Observation/{made.json()['id']}"
    assert f'"value":{digits}' in client.get(path).text
    xml = client.get(f"{path}?_format=xml").text
    assert f'<value value="{digits}"/>' in xml
    headers = {"Content-Type": "application/fhir+xml", "If-Match": 'W/"1"'}
    back = client.send("PUT", path, data=xml.replace("final", "amended"), headers=headers)
    assert back.status_code == 200, back.text
    assert f'"value":{digits}' in client.get(path).text


def test_a_patch_leaves_the_digits_of_the_rest(client):
    made = client.send("POST", "Observation", data=OBSERVATION % "0.0000001", headers=JSON)
    path = f"Observation/{made.json()['id']}"
    operations = [{"op": "replace", "path": "/status", "value": "amended"}]
    headers = {"Content-Type": "application/json-patch+json"}
    assert client.send("PATCH", path, json=operations, headers=headers).status_code == 200
    assert '"value":0.0000001' in client.get(path).text


def test_a_key_that_stands_twice_is_refused_with_its_path(client):
    body = '{"resourceType":"Patient","name":[{"family":"A","family":"B"}]}'
    refused = client.send("POST", "Patient", data=body, headers=JSON)
    assert refused.status_code == 400
    assert client.issues(refused)[0]["expression"] == ["Patient.name[0].family"]


def test_a_patch_that_says_a_key_twice_is_refused(client, unique):
    made = client.create({"resourceType": "Patient"})
    body = '[{"op":"add","path":"/active","value":true,"value":false}]'
    headers = {"Content-Type": "application/json-patch+json"}
    refused = client.send("PATCH", f"Patient/{made['id']}", data=body, headers=headers)
    assert refused.status_code == 400
    assert client.issues(refused)[0]["expression"] == ["[0].value"]
