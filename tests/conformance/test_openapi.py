"""The API's description is valid, complete, true, and can be read without a network."""

import re
from html.parser import HTMLParser

import pytest
import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from fhir_server.core.mapping.reading import QuarantineReason, Verdict
from fhir_server.rest import error_handler, openapi
from fhir_server.rest.routes import FHIR_ROUTES

DOCUMENT = openapi.describe(FHIR_ROUTES)
COMPONENTS = DOCUMENT["components"]


def operations():
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield path, method, operation


def resolved(part):
    if "$ref" not in part:
        return part
    kind, name = part["$ref"].removeprefix("#/components/").split("/")
    return COMPONENTS[kind][name]


def check(schema, value):
    registry = Registry().with_resource(
        "urn:api", Resource.from_contents(DOCUMENT, default_specification=DRAFT202012)
    )
    reference = {"$ref": f"urn:api{schema['$ref']}"} if "$ref" in schema else schema
    Draft202012Validator(reference, registry=registry).validate(value)


def test_the_document_is_openapi_3_1():
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_what_is_served_is_the_document(server):
    answer = requests.get(f"{server.url}/openapi.json", timeout=10)
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json() == DOCUMENT


def test_every_fhir_route_is_described_in_words():
    described = {(path, method): operation for path, method, operation in operations()}
    for route in FHIR_ROUTES:
        path = "/fhir" + (route.path if route.path != "/" else "")
        operation = described.pop((path, route.method.lower()))
        assert operation["summary"] != openapi.name_of(route), "no template in openapi.yaml"
    assert not [path for path, _ in described if path.startswith("/fhir")]


def test_every_other_route_is_described(server):
    from fhir_server.app import create_app
    from fhir_server.settings import Settings

    routes = create_app(Settings(store="sqlite:///:memory:")).routes
    routed = {
        (route.path, method.lower())
        for route in routes
        if hasattr(route, "methods")
        for method in route.methods - {"HEAD"}
    }
    described = {(path, method) for path, method, _ in operations() if "/fhir" not in path}
    assert routed - {("/openapi.json", "get"), ("/docs", "get")} == described


def test_operation_ids_are_unique():
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(ids) == len(set(ids))


def test_every_component_is_used():
    text = str(DOCUMENT)
    for kind, named in COMPONENTS.items():
        for name in named:
            if kind == "securitySchemes":
                # Named by its name alone.
                assert {name: []} in DOCUMENT["security"]
                continue
            assert f"#/components/{kind}/{name}'" in text, (kind, name)


def test_examples_are_what_their_schemas_say():
    checked = 0
    for _, _, operation in operations():
        parts = [operation.get("requestBody", {}), *operation["responses"].values()]
        for part in map(resolved, parts):
            for content in part.get("content", {}).values():
                for example in content.get("examples", {}).values():
                    check(content["schema"], example["value"])
                    checked += 1
    assert checked >= 6


def test_words_of_the_code_are_the_words_of_the_description():
    schemas = COMPONENTS["schemas"]
    assert set(schemas["Verdict"]["enum"]) == set(Verdict)
    assert set(schemas["Reason"]["enum"]) == set(QuarantineReason)
    assert set(schemas["Counts"]["required"]) == set(Verdict)


def test_statuses_are_those_that_errors_become():
    known = {str(status) for status in error_handler.STATUS.values()}
    for path, _, operation in operations():
        errors = {status for status in operation["responses"] if status[0] in "45"}
        if path != "/health/ready":
            assert errors <= known, path


def test_what_the_edge_may_say_is_said_of_every_route():
    for path, method, operation in operations():
        assert {"408", "429", "431", "503"} <= operation["responses"].keys(), (path, method)
        slow_down = resolved(operation["responses"]["429"])
        assert path.startswith("/auth") or "Retry-After" in slow_down["headers"], path


def test_answers_are_what_is_described(server, client):
    check(
        {"$ref": "#/components/schemas/CapabilityStatement"},
        requests.get(f"{server.fhir}/metadata", timeout=10).json(),
    )
    for path in ("/health/live", "/health/ready"):
        answer = requests.get(f"{server.url}{path}", timeout=10).json()
        check({"$ref": "#/components/schemas/Health"}, answer)
    payload = {"type": "Heart Rate", "time": "2024-01-02T03:04:05Z", "device": "of-nobody-else",
               "values": {"beatsPerMinute": 60}}  # fmt: skip
    sent = requests.post(f"{server.url}/readings/iot-hub", json=payload, timeout=10).json()
    check({"$ref": "#/components/schemas/Verdicts"}, sent)
    listed = requests.get(f"{server.url}/readings/quarantine", timeout=10).json()
    check({"$ref": "#/components/schemas/Quarantine"}, listed)
    again = requests.post(
        f"{server.url}/readings/quarantine/reprocess",
        params={"quarantine": sent["results"][0]["quarantine"]},
        timeout=10,
    ).json()
    check({"$ref": "#/components/schemas/Reprocessed"}, again)
    found = client.get("Patient?_count=1").json()
    check({"$ref": "#/components/schemas/Bundle"}, found)
    missing = client.get("Patient/none-such").json()
    check({"$ref": "#/components/schemas/OperationOutcome"}, missing)


class Page(HTMLParser):
    """What a page holds: its elements, what it loads, where it links to, its ids."""

    def __init__(self):
        super().__init__()
        self.elements, self.loaded, self.links, self.ids, self.open = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.elements.append(tag)
        if "src" in attributes or tag == "link":
            self.loaded.append((tag, attributes))
        if tag == "a":
            self.links.append(attributes["href"])
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(server):
    answer = requests.get(f"{server.url}/docs", timeout=10)
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    parsed = Page()
    parsed.feed(answer.text)
    assert parsed.open == []
    return parsed


def test_the_page_loads_nothing_and_runs_nothing(page):
    assert page.loaded == []
    assert "script" not in page.elements


def test_the_page_has_every_operation_and_schema(page):
    assert {operation["operationId"] for _, _, operation in operations()} <= set(page.ids)
    assert {f"schema-{name}" for name in COMPONENTS["schemas"]} <= set(page.ids)


def test_links_within_the_page_lead_somewhere(page):
    inside = {link[1:] for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_links_out_of_the_page_go_to_the_specification(page):
    outside = {link for link in page.links if re.match("[a-z]+:", link)}
    assert all(link.startswith("https://hl7.org/fhir/") for link in outside)
