"""XML in and out: https://hl7.org/fhir/R4/http.html#mime-type."""

import gzip
import xml.etree.ElementTree as ElementTree

import pytest

XML = "application/fhir+xml"
JSON = "application/fhir+json"
NAMESPACE = {"f": "http://hl7.org/fhir"}
OBSERVATION = """<?xml version="1.0" encoding="UTF-8"?>
<Observation xmlns="http://hl7.org/fhir">
  <text><status value="generated"/>
    <div xmlns="http://www.w3.org/1999/xhtml"><p title='a'>Давление &amp; пульс<br/>&#160;</p></div>
  </text>
  <contained><Patient><id value="p"/><active value="true"/></Patient></contained>
  <status value="final"/>
  <code><text value="x"/></code>
  <subject><reference value="#p"/></subject>
  <effectiveDateTime value="2024-05-02T07:12:13.000+03:00">
    <extension url="urn:x"><valueInteger value="7"/></extension>
  </effectiveDateTime>
  <valueQuantity><value value="1.50"/><unit value="kg"/></valueQuantity>
</Observation>"""


@pytest.fixture
def patient(client, unique):
    return client.create(
        {"resourceType": "Patient", "identifier": [{"value": unique}], "gender": "female"}
    )


def send(client, method, path, body=None, **headers):
    headers = {"Accept": XML, **({"Content-Type": XML} if body is not None else {}), **headers}
    data = body.encode() if isinstance(body, str) else body
    return client.send(method, path, data=data, headers=headers)


def document(response, name, status=200):
    """The answer as a tree; its root is `name`."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == f"{XML}; charset=utf-8"
    assert int(response.headers["Content-Length"]) > 0
    root = ElementTree.fromstring(response.content)
    assert root.tag == f"{{http://hl7.org/fhir}}{name}"
    return root


def value(root, path):
    return root.find("/".join(f"f:{step}" for step in path.split("/")), NAMESPACE).get("value")


def test_xml_comes_back_as_it_was_sent(client):
    created = send(client, "POST", "Observation", OBSERVATION)
    root = document(created, "Observation", 201)
    assert created.headers["Location"].endswith(f"/{value(root, 'id')}/_history/1")

    read = send(client, "GET", f"Observation/{value(root, 'id')}")

    assert read.content == created.content
    for part in (
        b'<value value="1.50"/>',
        b'value="2024-05-02T07:12:13.000+03:00"',
        b'<extension url="urn:x"><valueInteger value="7"/></extension>',
        "<p title='a'>Давление &amp; пульс<br/>&#160;</p>".encode(),
        b'<contained><Patient><id value="p"/><active value="true"/></Patient></contained>',
    ):
        assert part in read.content


def test_xml_and_json_are_two_sides_of_one_resource(client):
    root = document(send(client, "POST", "Observation", OBSERVATION), "Observation", 201)
    path = f"Observation/{value(root, 'id')}"

    as_json = client.get(path)

    assert as_json.json()["contained"] == [{"resourceType": "Patient", "id": "p", "active": True}]
    assert b'"value":1.50,' in as_json.content
    unchanged = send(client, "PUT", path, send(client, "GET", path).content)
    assert unchanged.headers["ETag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("path", "accept", "expected"),
    [
        ("Patient?_count=1&_format=xml", None, XML),
        ("Patient?_count=1&_format=application/fhir%2Bxml", None, XML),
        ("Patient?_count=1&_format=text/xml", None, "text/xml"),
        ("Patient?_count=1", "application/xml", "application/xml"),
        ("Patient?_count=1", "application/fhir+xml;q=0.9, application/fhir+json;q=0.8", XML),
        ("Patient?_count=1", "application/fhir+xml;q=0.8, application/fhir+json;q=0.9", JSON),
        ("Patient?_count=1&_format=json", XML, JSON),
    ],
)
def test_the_client_chooses_the_format(client, path, accept, expected):
    response = client.get(path, headers={"Accept": accept} if accept else {})

    assert response.headers["Content-Type"] == f"{expected}; charset=utf-8"
    assert response.content.startswith(b"{" if "json" in expected else b"<?xml")


def test_an_answer_without_a_wish_is_in_the_format_of_the_request(client):
    response = send(
        client, "POST", "Patient", '<Patient xmlns="http://hl7.org/fhir"/>', Accept="*/*"
    )

    document(response, "Patient", 201)


def test_every_interaction_answers_in_xml(client, patient, unique):
    path = f"Patient/{patient['id']}"
    body = send(client, "GET", path).content.decode()
    bundle = f"""<Bundle xmlns="http://hl7.org/fhir"><type value="transaction"/>
        <entry>
            <fullUrl value="urn:uuid:6a0ff2a5-2a0a-4a35-9a35-3b9be2c6a002"/>
            <resource><Basic><code><text value="{unique}"/></code></Basic></resource>
            <request><method value="POST"/><url value="Basic"/></request>
        </entry>
        <entry><request><method value="GET"/><url value="{path}"/></request></entry>
    </Bundle>"""

    document(send(client, "GET", path), "Patient")
    document(send(client, "GET", f"{path}/_history/1"), "Patient")
    document(send(client, "PUT", path, body.replace("female", "male")), "Patient")
    document(send(client, "GET", f"{path}?_summary=true"), "Patient")
    found = document(send(client, "GET", f"Patient?identifier={unique}"), "Bundle")
    assert value(found, "entry/resource/Patient/gender") == "male"
    for history in (f"{path}/_history", "Patient/_history?_count=2", "_history?_count=2"):
        document(send(client, "GET", history), "Bundle")
    document(send(client, "GET", "metadata"), "CapabilityStatement")
    done = document(send(client, "POST", "", bundle), "Bundle")
    assert value(done, "entry/response/status") == "201 Created"
    assert send(client, "DELETE", path).status_code == 204
    document(send(client, "GET", path), "OperationOutcome", 410)


def test_a_search_can_be_posted_with_its_format(client, patient, unique):
    form = {"identifier": unique, "_format": "xml", "_pretty": "true"}

    response = client.send("POST", "Patient/_search", data=form)

    found = document(response, "Bundle")
    assert value(found, "entry/resource/Patient/id") == patient["id"]
    assert b"\n  <" in response.content


def test_a_head_tells_what_a_get_would_send(client, patient):
    path = f"Patient/{patient['id']}"

    head = send(client, "HEAD", path)

    assert head.headers["Content-Length"] == str(len(send(client, "GET", path).content))
    assert head.headers["Content-Type"] == f"{XML}; charset=utf-8"


def test_an_unchanged_version_is_not_sent_in_xml_either(client, patient):
    path = f"Patient/{patient['id']}"

    response = send(client, "GET", path, **{"If-None-Match": 'W/"1"'})

    assert response.status_code == 304
    assert response.content == b""


def test_pretty_xml_is_indented_and_the_same(client, patient):
    path = f"Patient/{patient['id']}"

    pretty = send(client, "GET", f"{path}?_pretty=true")

    assert b"\n  <gender" in pretty.content
    lines = [line.strip() for line in pretty.content.splitlines()]
    assert b"".join(lines) == send(client, "GET", path).content


def test_gzipped_xml_goes_both_ways(client, unique):
    name = unique * 3_000
    body = f'<Patient xmlns="http://hl7.org/fhir"><name><text value="{name}"/></name></Patient>'
    compressed = gzip.compress(body.encode())

    response = send(client, "POST", "Patient", compressed, **{"Content-Encoding": "gzip"})

    assert response.headers["Content-Encoding"] == "gzip"
    assert value(document(response, "Patient", 201), "name/text") == name


@pytest.mark.parametrize(
    ("prefer", "name"), [("return=OperationOutcome", "OperationOutcome"), ("return=minimal", None)]
)
def test_preferences_hold_for_xml(client, prefer, name):
    body = '<Patient xmlns="http://hl7.org/fhir"/>'

    response = send(client, "POST", "Patient", body, Prefer=prefer)

    assert response.status_code == 201
    if name is None:
        assert response.content == b""
    else:
        document(response, name, 201)


@pytest.mark.parametrize(
    ("body", "status", "expression"),
    [
        ("<Patient", 400, None),
        ('{"resourceType": "Patient"}', 400, None),
        ("<Patient/>", 400, "Resource"),
        ('<!DOCTYPE x [<!ENTITY e "x">]><Patient xmlns="http://hl7.org/fhir"/>', 400, None),
        ('<Patient xmlns="http://hl7.org/fhir"><foo value="1"/></Patient>', 422, "Patient.foo"),
        (
            '<Patient xmlns="http://hl7.org/fhir"><gender value="wrong"/></Patient>',
            422,
            "Patient.gender",
        ),
        (
            '<Patient xmlns="http://hl7.org/fhir"><active value="1"/></Patient>',
            422,
            "Patient.active",
        ),
        (
            '<Observation xmlns="http://hl7.org/fhir"><status value="final"/></Observation>',
            400,
            "Resource.resourceType",
        ),
    ],
)
def test_faults_are_told_in_xml_with_their_path(client, body, status, expression):
    root = document(send(client, "POST", "Patient", body), "OperationOutcome", status)

    assert value(root, "issue/severity") == "error"
    if expression:
        assert value(root, "issue/expression") == expression


@pytest.mark.parametrize("path", ["Patient/none-such", "Nothing", "a/b/c/d/e", "Patient?x:y=1"])
def test_requests_that_fail_are_told_in_xml(client, path):
    response = send(client, "GET", path, Prefer="handling=strict")

    document(response, "OperationOutcome", 400 if "?" in path else 404)


def test_a_reference_to_this_server_is_stored_relative(client):
    body = OBSERVATION.replace('"#p"', f'"{client.base.replace("/", "&#47;")}/Patient/1"')
    body = body.replace("<contained>", "<!--").replace("</contained>", "-->")

    root = document(send(client, "POST", "Observation", body), "Observation", 201)

    assert value(root, "subject/reference") == "Patient/1"


def test_xml_is_claimed(client):
    assert {XML, JSON, "xml", "json"} <= set(client.get("metadata").json()["format"])
