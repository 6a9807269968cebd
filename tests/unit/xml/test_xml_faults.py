"""What is no FHIR XML is refused, with the path of what is wrong, and quickly."""

import time

import pytest

from fhir_server import definitions
from fhir_server.core import resource_xml
from fhir_server.errors import InvalidResource, MalformedResource, NotAcceptable

TYPES = definitions.load_element_types()


def patient(inside):
    return b'<Patient xmlns="http://hl7.org/fhir">' + inside + b"</Patient>"


def faults(body):
    with pytest.raises(InvalidResource) as caught:
        resource_xml.parse(body, TYPES)
    return [(issue.expression, issue.diagnostics) for issue in caught.value.issues]


@pytest.mark.parametrize(
    ("inside", "path"),
    [
        (b"<foo/>", "Patient.foo"),
        (b"<Name/>", "Patient.Name"),
        (b"<name><given value='a'/><given value='b' use='x'/></name>", "Patient.name[0].given[1]"),
        (b"<name use='official'><text value='x'/></name>", "Patient.name[0]"),
        (b"<contact/><contact><gender/></contact>", "Patient.contact[0]"),
        (b"<gender value=''/>", "Patient.gender"),
        (b"<active value='yes'/>", "Patient.active"),
        (b"<multipleBirthInteger value='1.5'/>", "Patient.multipleBirthInteger"),
        (b"<gender value='male'/><gender value='male'/>", "Patient.gender"),
        (b"<name>Ivan</name>", "Patient.name[0]"),
        (b"<extension><url value='u'/></extension>", "Patient.extension[0].url"),
        (b"<contained><Patient/><Patient/></contained>", "Patient.contained[0]"),
        (b"<contained><Foo/></contained>", "Patient.contained[0]"),
        (b"<contained><Patient><bar/></Patient></contained>", "Patient.contained[0].bar"),
        (b"<gender xmlns='urn:other' value='male'/>", "Patient.gender"),
        (b"<text><div>x</div></text>", "Patient.text.div"),
    ],
)
def test_a_fault_is_told_with_its_path(inside, path):
    assert faults(patient(inside))[0][0] == path


def test_all_faults_are_told_at_once():
    found = faults(patient(b"<foo><a><b/></a></foo><active value='x'/><bar/>"))

    assert [path for path, _ in found] == ["Patient.foo", "Patient.active", "Patient.bar"]


def test_a_fault_does_not_repeat_what_was_sent():
    body = patient("<gender value='' secret='Иванов'/><name>Ivanov</name>".encode())

    assert "vanov" not in str(faults(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<Patient",
        b"<Patient/>",
        b'<HumanName xmlns="http://hl7.org/fhir"/>',
        b'<DomainResource xmlns="http://hl7.org/fhir"/>',
        b'<patient xmlns="http://hl7.org/fhir"/>',
        patient(b"<name>"),
        patient(b"\xff"),
        patient(b"<text><div xmlns='http://www.w3.org/1999/xhtml'>&nbsp;</div></text>"),
        patient(b"").decode().encode("utf-16"),
        patient(b"").decode().encode("utf-32"),
        b'<?xml version="1.0" encoding="iso-8859-1"?>' + patient(b""),
        patient(b"") + patient(b""),
    ],
)
def test_what_is_no_resource_in_utf8_is_malformed(body):
    with pytest.raises(MalformedResource):
        resource_xml.parse(body, TYPES)


LAUGHS = b"".join(
    b'<!ENTITY l%d "%s">' % (i, b"&l%d;" % (i - 1) * 10 if i else b"ha") for i in range(10)
)


@pytest.mark.parametrize(
    "doctype",
    [
        b"<!DOCTYPE Patient [" + LAUGHS + b"]>",
        b'<!DOCTYPE Patient [<!ENTITY l9 SYSTEM "file:///etc/passwd">]>',
        b'<!DOCTYPE Patient SYSTEM "http://127.0.0.1:9/x.dtd">',
        b'<!DOCTYPE Patient [<!ENTITY % e SYSTEM "http://127.0.0.1:9/x"> %e;]>',
        b"<!DOCTYPE Patient>",
    ],
)
def test_a_document_type_declaration_is_refused(doctype):
    started = time.perf_counter()

    with pytest.raises(MalformedResource, match="document type declaration"):
        resource_xml.parse(doctype + patient(b'<id value="&l9;"/>'), TYPES)

    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "inside",
    [
        b"<contained><Patient>" * 100_000,
        b'<extension url="u">' * 100_000,
        b"<x>" * 300_000,
        b"<x/>" * 300_000,
        b"<name " + b" ".join(b'a%d="1"' % i for i in range(100_000)) + b"/>",
        b'<multipleBirthInteger value="' + b"9" * 1_000_000 + b'"/>',
    ],
)
def test_hostile_bodies_are_refused_quickly(inside):
    started = time.perf_counter()

    with pytest.raises((MalformedResource, InvalidResource)) as caught:
        resource_xml.parse(patient(inside), TYPES)

    assert len(caught.value.issues) <= 100
    assert time.perf_counter() - started < 2


def test_a_schema_location_says_nothing():
    body = (
        b'<Patient xmlns="http://hl7.org/fhir" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        b' xsi:schemaLocation="http://hl7.org/fhir patient.xsd"><!-- x --><?pi x?></Patient>'
    )

    assert resource_xml.parse(body, TYPES) == {"resourceType": "Patient"}


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ({"resourceType": "Patient", "foo": 1}, "Patient"),
        ({"resourceType": "Foo"}, "Resource"),
        ({"resourceType": "Patient", "name": {"text": "x"}}, "Patient"),
        ({"resourceType": "Patient", "name": ["x"]}, "Patient.name[0]"),
        ({"resourceType": "Patient", "gender": {"a": 1}}, "Patient.gender"),
        ({"resourceType": "Patient", "gender": None}, "Patient.gender"),
        ({"resourceType": "Patient", "contained": [{"id": "x"}]}, "Patient.contained[0]"),
        ({"resourceType": "Patient", "text": {"div": 1}}, "Patient.text.div"),
        ({"resourceType": "Patient", "name": [{"id": 1}]}, "Patient.name[0]"),
    ],
)
def test_what_xml_cannot_say_is_not_acceptable(resource, path):
    with pytest.raises(NotAcceptable) as caught:
        resource_xml.format(resource, TYPES)

    assert caught.value.issues[0].expression == path


def test_a_resource_nested_without_end_is_not_acceptable():
    extension = {"url": "u", "valueCode": "x"}
    for _ in range(400):
        extension = {"url": "u", "extension": [extension]}

    with pytest.raises(NotAcceptable):
        resource_xml.format({"resourceType": "Patient", "extension": [extension]}, TYPES)
