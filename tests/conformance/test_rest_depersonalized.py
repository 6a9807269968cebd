"""De-identified and source data are never in one store."""

import pytest
import requests

from fhir_server.core.security.deidentify import LABEL
from tests.conformance.conftest import Server

PATIENT = {"resourceType": "Patient", "gender": "female"}
LABELLED = {**PATIENT, "meta": {"security": [dict(LABEL)]}}
OF_NOBODY = {"resourceType": "Organization", "name": "Clinic"}


def send(server, resource, is_bundled):
    if not is_bundled:
        return requests.post(f"{server.fhir}/{resource['resourceType']}", json=resource, timeout=10)
    request = {"method": "POST", "url": resource["resourceType"]}
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": resource, "request": request}],
    }
    return requests.post(server.fhir, json=bundle, timeout=10)


@pytest.mark.parametrize("is_bundled", [False, True])
def test_a_store_of_sources_refuses_what_was_de_identified(server, is_bundled):
    assert send(server, PATIENT, is_bundled).ok
    refused = send(server, LABELLED, is_bundled)
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"][0].endswith("meta.security")


def test_a_store_of_the_de_identified_refuses_whatever_names_a_patient():
    with Server(depersonalized=True) as server:
        for is_bundled in (False, True):
            assert send(server, LABELLED, is_bundled).ok
            assert send(server, OF_NOBODY, is_bundled).ok
            assert send(server, PATIENT, is_bundled).status_code == 422
