"""Bundles as requests: https://hl7.org/fhir/R4/http.html#transaction."""

import pytest

from fhir_server.core.bundle_request import (
    RefusedEntry,
    RequestEntry,
    parse_entries,
    parse_type,
)
from fhir_server.errors import FhirError

BASE = "http://here/fhir"
PATIENT = {"resourceType": "Patient"}


def parse_one(entry):
    return parse_entries({"entry": [entry]}, BASE, 10)[0]


def request(method="POST", url="Patient", **more):
    return {"resource": PATIENT, "request": {"method": method, "url": url, **more}}


def test_entry_is_understood():
    entry = parse_one({"fullUrl": "urn:uuid:1", **request(ifNoneExist="identifier=s|1")})
    assert entry == RequestEntry(
        0, "POST", ("Patient",), (), "urn:uuid:1", PATIENT, if_none_exist="identifier=s|1"
    )


@pytest.mark.parametrize("url", ["Patient/1", "/Patient/1", f"{BASE}/Patient/1", "Patient/1/"])
def test_url_may_be_relative_or_on_this_server(url):
    assert parse_one(request("PUT", url)).path == ("Patient", "1")


def test_query_of_the_url_is_parsed():
    entry = parse_one(request("GET", "Patient?name=a%20b&name=c"))
    assert entry.path == ("Patient",)
    assert entry.params == (("name", "a b"), ("name", "c"))


@pytest.mark.parametrize(
    ("entry", "expression"),
    [
        (None, "Bundle.entry[0]"),
        ([], "Bundle.entry[0]"),
        ({}, "Bundle.entry[0].request"),
        ({"request": None}, "Bundle.entry[0].request"),
        (request("post"), "Bundle.entry[0].request.method"),
        (request("Get"), "Bundle.entry[0].request.method"),
        (request("TRACE"), "Bundle.entry[0].request.method"),
        (request(None), "Bundle.entry[0].request.method"),
        (request(url=1), "Bundle.entry[0].request.url"),
        (request(url=""), "Bundle.entry[0].request.url"),
        (request(url="http://there/fhir/Patient"), "Bundle.entry[0].request.url"),
        (request("GET", "Patient?name=%ff"), "Bundle.entry[0].request.url"),
        (request(ifMatch=1), "Bundle.entry[0].request.ifMatch"),
        ({**request(), "resource": None}, "Bundle.entry[0].resource"),
        ({**request(), "resource": []}, "Bundle.entry[0].resource"),
        ({**request(), "resource": {"resourceType": 1}}, "Bundle.entry[0].resource"),
        ({**request(), "fullUrl": {}}, "Bundle.entry[0].fullUrl"),
        ({"request": {"url": "Patient"}}, "Bundle.entry[0].request.method"),
        ({"request": {"method": "GET"}}, "Bundle.entry[0].request.url"),
    ],
)
def test_entry_that_means_nothing_is_refused_alone(entry, expression):
    refused = parse_one(entry)
    assert isinstance(refused, RefusedEntry)
    assert refused.error.issues[0].expression == expression


@pytest.mark.parametrize("entries", [None, {}, "x", 1])
def test_entry_that_is_no_list_refuses_the_bundle(entries):
    with pytest.raises(FhirError):
        parse_entries({"entry": entries}, BASE, 10)


def test_more_entries_than_the_limit_refuse_the_bundle():
    with pytest.raises(FhirError) as caught:
        parse_entries({"entry": [None] * 11}, BASE, 10)
    assert caught.value.issues[0].code == "too-costly"


@pytest.mark.parametrize(
    "bundle",
    [
        {"resourceType": "Patient"},
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "type": "Batch"},
        {"resourceType": "Bundle", "type": "searchset"},
        {"resourceType": "Bundle", "type": ["batch"]},
    ],
)
def test_bundle_that_is_no_request_is_refused(bundle):
    with pytest.raises(FhirError):
        parse_type(bundle)
