"""A resource goes to XML and comes back the same."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server import definitions
from fhir_server.core import resource_json, resource_xml
from fhir_server.core.xml.layout import Kind, layouts_of

TYPES = definitions.load_element_types()
LAYOUTS = layouts_of(TYPES)
XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
EXAMPLES = sorted((Path(__file__).parents[1] / "validation" / "examples").glob("*.json"))
RESOURCE_TYPES = sorted(definitions.load_type_rules().resource_types)

assert EXAMPLES

TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
    | st.sampled_from("\t\r\n&<>\"'\u00a0\u2028"),
    min_size=1,
    max_size=8,
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).map(
    lambda number: resource_json.parse(resource_json.format(number))
)
NARRATIVES = st.sampled_from(
    [
        f"<div {XHTML}>x</div>",
        f"<div {XHTML}><p class='a &gt; b'>5 &lt; 6 &amp; 7<br/>\u00a0&#160;</p><!-- c --></div>",
        f"<div\n {XHTML}\n  lang=\"ru\" xml:lang='ru' ><![CDATA[<x>]]>\r\n<p></p></div>",
        f"<div {XHTML} title=\"a&quot;'>\"><img src='#i' alt=''/></div>",
    ]
)


@st.composite
def primitives(draw, type_name):
    match type_name:
        case "boolean":
            return draw(st.booleans())
        case "integer":
            return draw(st.integers(-(2**31), 2**31 - 1))
        case "unsignedInt" | "positiveInt":
            return draw(st.integers(1, 2**31 - 1))
        case "decimal":
            return draw(DECIMALS | st.integers(-(10**20), 10**20))
    return draw(TEXTS)


@st.composite
def extras(draw):
    extra = {"id": draw(TEXTS)} if draw(st.booleans()) else {}
    if not extra or draw(st.booleans()):
        extra["extension"] = [{"url": draw(TEXTS), "valueDecimal": draw(DECIMALS)}]
    return extra


@st.composite
def objects(draw, layout, depth):
    value = {"resourceType": layout.name} if layout.is_resource else {}
    fields = [
        f
        for f in layout.fields.values()
        if depth > 0 or f.kind in (Kind.PRIMITIVE, Kind.NARRATIVE, Kind.ATTRIBUTE)
    ]
    for field in draw(st.lists(st.sampled_from(fields), max_size=6, unique=True)):
        size = draw(st.integers(1, 3)) if field.is_list else 1
        if field.kind is Kind.PRIMITIVE:
            pairs = [
                draw(
                    st.tuples(primitives(field.type_name), st.none())
                    | st.tuples(st.none(), extras())
                    | st.tuples(primitives(field.type_name), extras())
                )
                for _ in range(size)
            ]
            columns = zip(*pairs, strict=True)
            for name, items in zip((field.name, "_" + field.name), columns, strict=True):
                if any(item is not None for item in items):
                    value[name] = list(items) if field.is_list else items[0]
            continue
        if field.kind is Kind.ATTRIBUTE:
            value[field.name] = draw(TEXTS)
            continue
        if field.kind is Kind.NARRATIVE:
            value[field.name] = draw(NARRATIVES)
            continue
        if field.kind is Kind.RESOURCE:
            inner = LAYOUTS.of(draw(st.sampled_from(["Patient", "Basic", "Binary"])))
        else:
            inner = LAYOUTS.of(field.type_name)
        items = [item for _ in range(size) if (item := draw(objects(inner, depth - 1)))]
        if items:
            value[field.name] = items if field.is_list else items[0]
    return value


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_generated_resource_comes_back_the_same(data):
    layout = LAYOUTS.of(data.draw(st.sampled_from(RESOURCE_TYPES)))
    resource = data.draw(objects(layout, 3))

    plain = resource_xml.parse(resource_xml.format(resource, TYPES), TYPES)
    pretty = resource_xml.parse(resource_xml.format(resource, TYPES, is_pretty=True), TYPES)

    expected = resource_json.format_sorted(resource)
    assert resource_json.format_sorted(plain) == expected
    assert resource_json.format_sorted(pretty) == expected


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_comes_back_the_same(path):
    in_namespace = b"\"<div xmlns='http://www.w3.org/1999/xhtml'>"
    body = path.read_bytes().replace(b'"<div>', in_namespace)
    resource = resource_json.parse_resource(body)

    xml = resource_xml.format(resource, TYPES)

    back = resource_xml.parse(xml, TYPES)
    assert resource_json.format_sorted(back) == resource_json.format_sorted(resource)
    assert resource_xml.format(back, TYPES) == xml


@pytest.mark.parametrize("resource_type", RESOURCE_TYPES)
def test_every_resource_type_can_be_written_and_read(resource_type):
    resource = {
        "resourceType": resource_type,
        "id": "a",
        "meta": {"versionId": "1", "tag": [{"code": "x"}]},
        "language": "ru",
    }

    assert resource_xml.parse(resource_xml.format(resource, TYPES), TYPES) == resource


@pytest.mark.parametrize("digits", ["1.50", "0.0100", "-0.00", "100", "1E+5", "1.0E-12", "0"])
def test_decimals_keep_their_digits(digits):
    resource = resource_json.parse_resource(
        b'{"resourceType":"Observation","valueQuantity":{"value":%s}}' % digits.encode()
    )

    xml = resource_xml.format(resource, TYPES)

    assert f'<value value="{digits}"/>'.encode() in xml
    assert f'"value":{digits}}}'.encode() in resource_json.format(resource_xml.parse(xml, TYPES))


@pytest.mark.parametrize("text", ["2024", "2024-02-29T24:00:00.000+03:00", "0033-01-01", " x "])
def test_dates_keep_their_text(text):
    resource = {"resourceType": "Patient", "birthDate": text}

    assert resource_xml.parse(resource_xml.format(resource, TYPES), TYPES) == resource


def test_types_come_from_the_element_and_not_from_the_text():
    body = b"""<Observation xmlns="http://hl7.org/fhir">
        <valueString value="true"/>
        <component><valueInteger value="5"/></component>
        <component><valueBoolean value="true"/></component>
        <component><valueSampledData><period value="5"/></valueSampledData></component>
    </Observation>"""

    assert resource_xml.parse(body, TYPES) == {
        "resourceType": "Observation",
        "valueString": "true",
        "component": [
            {"valueInteger": 5},
            {"valueBoolean": True},
            {"valueSampledData": {"period": 5}},
        ],
    }


def test_lists_of_primitives_have_their_extensions_beside_them():
    body = b"""<Patient xmlns="http://hl7.org/fhir">
        <name>
            <given value="a"/>
            <given id="g"><extension url="u"><valueCode value="masked"/></extension></given>
        </name>
        <name><given id="only"/></name>
    </Patient>"""

    assert resource_xml.parse(body, TYPES)["name"] == [
        {
            "given": ["a", None],
            "_given": [None, {"id": "g", "extension": [{"url": "u", "valueCode": "masked"}]}],
        },
        {"_given": [{"id": "only"}]},
    ]


def test_elements_are_written_in_the_order_of_r4():
    patient = {
        "resourceType": "Patient",
        "gender": "male",
        "name": [{"given": ["a"], "family": "b", "use": "usual"}],
        "active": True,
        "text": {"div": f"<div {XHTML}>x</div>", "status": "empty"},
        "meta": {"versionId": "1"},
        "id": "1",
    }

    xml = resource_xml.format(patient, TYPES).decode()

    names = ["<id", "<meta", "<text", "<status", "<div", "<active", "<name", "<use", "<family"]
    places = [xml.index(name) for name in [*names, "<given", "<gender"]]
    assert places == sorted(places)


def test_what_a_parser_would_change_in_attributes_is_escaped():
    patient = {"resourceType": "Patient", "name": [{"text": "a\tb\r\nc \"<&>' "}]}

    xml = resource_xml.format(patient, TYPES)

    assert b'value="a&#9;b&#13;&#10;c &quot;&lt;&amp;&gt;\' "' in xml
    assert resource_xml.parse(xml, TYPES) == patient


def test_integers_written_as_decimals_stay_integers():
    body = (
        b'<Observation xmlns="http://hl7.org/fhir">'
        b'<valueQuantity><value value="5"/></valueQuantity></Observation>'
    )

    value = resource_xml.parse(body, TYPES)["valueQuantity"]["value"]

    assert value == 5
    assert not isinstance(value, Decimal)
