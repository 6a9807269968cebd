"""References by `urn:uuid` between the entries of a transaction, and those that lead nowhere.

https://hl7.org/fhir/R4/http.html#trules
"""

URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e30095{:04x}"


def test_a_reference_to_no_entry_fails_the_transaction(client, unique):
    before = client.get("_history?_count=1").json()["total"]
    observation = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": unique},
        "subject": {"reference": URN.format(77)},
    }
    entries = [
        {"request": {"method": "POST", "url": "Observation"}, "resource": observation},
        {
            "fullUrl": URN.format(78),
            "request": {"method": "POST", "url": "Patient"},
            "resource": {"resourceType": "Patient"},
        },
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    refused = client.post("", bundle)
    assert refused.status_code == 400
    assert client.issues(refused)[0]["expression"] == ["Bundle.entry[0].resource.subject.reference"]
    assert client.get("_history?_count=1").json()["total"] == before


def test_a_stored_bundle_keeps_the_references_between_its_own_entries(client):
    inner = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {
                "fullUrl": URN.format(80),
                "resource": {
                    "resourceType": "Observation",
                    "status": "final",
                    "code": {"text": "x"},
                    "subject": {"reference": URN.format(81)},
                },
            }
        ],
    }
    entry = {"request": {"method": "POST", "url": "Bundle"}, "resource": inner}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    assert client.post("", bundle).status_code == 200


def test_a_patch_brings_in_no_reference_to_no_entry(client):
    made = client.create(
        {"resourceType": "Observation", "status": "final", "code": {"text": "x"},
         "subject": {"reference": URN.format(90)}}
    )  # fmt: skip
    path = f"Observation/{made['id']}"

    def patched(urn):
        part = [
            {"name": "type", "valueCode": "add"},
            {"name": "path", "valueString": "Observation"},
            {"name": "name", "valueString": "encounter"},
            {"name": "value", "valueReference": {"reference": urn}},
        ]
        patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
        entry = {"request": {"method": "PATCH", "url": path}, "resource": patch}
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
        return client.post("", bundle)

    assert patched(URN.format(91)).status_code == 400
    # What the resource has had all along is none of the patch's.
    assert patched("Encounter/1").status_code == 200
