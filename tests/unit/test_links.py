"""Links within resources: https://hl7.org/fhir/R4/references.html."""

from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.core import links

URN = "urn:uuid:61ebe359-bfdc-4613-8bf2-c5e300945f0a"
OTHER = "urn:uuid:88f151c0-a954-468a-88bd-5ae15c08e059"


def test_absolute_reference_to_our_base_becomes_relative():
    resource = {
        "resourceType": "Observation",
        "subject": {"reference": "http://here/fhir/Patient/1"},
        "performer": [{"reference": "http://here/fhir/Practitioner/2/_history/3"}],
        "device": {"reference": "http://there/fhir/Device/1"},
        "derivedFrom": [{"reference": "http://here/fhirs/Observation/1"}],
        "note": [{"text": "http://here/fhir/Patient/1"}],
    }
    localized = links.localize(resource, "http://here/fhir")
    assert localized["subject"] == {"reference": "Patient/1"}
    assert localized["performer"] == [{"reference": "Practitioner/2/_history/3"}]
    for untouched in ("device", "derivedFrom", "note"):
        assert localized[untouched] == resource[untouched]


def test_what_is_no_resource_below_our_base_stays_absolute():
    resource = {"subject": {"reference": "http://here/fhir/Patient?name=x"}}
    assert links.localize(resource, "http://here/fhir") is resource


def test_urn_is_followed_in_references_attachments_and_narrative():
    resource = {
        "resourceType": "DocumentReference",
        "text": {"div": f"<div><a href=\"{URN}\">x</a><img src='{OTHER}'/> {URN}</div>"},
        "subject": {"reference": URN},
        "content": [{"attachment": {"url": OTHER}}],
        "extension": [{"url": "http://x", "valueUri": URN}],
    }
    targets = {URN: "Patient/1", OTHER: "Binary/2"}
    followed = links.follow(resource, targets, None)
    assert followed["text"]["div"] == (
        f"<div><a href=\"Patient/1\">x</a><img src='Binary/2'/> {URN}</div>"
    )
    assert followed["subject"] == {"reference": "Patient/1"}
    assert followed["content"] == [{"attachment": {"url": "Binary/2"}}]
    assert followed["extension"] == [{"url": "http://x", "valueUri": "Patient/1"}]


def test_identifier_that_is_a_urn_is_no_link():
    resource = {
        "resourceType": "Patient",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": URN}],
    }
    assert links.follow(resource, {URN: "Patient/1"}, URN) == resource


def test_canonical_url_of_a_resource_is_no_link():
    url = "http://here/fhir/Questionnaire/1"
    resource = {"resourceType": "Questionnaire", "url": url}
    assert links.follow(resource, {url: "Questionnaire/2"}, url)["url"] == url
    named = {"resourceType": "Questionnaire", "url": URN}
    assert links.follow(named, {URN: "Questionnaire/2"}, URN)["url"] == URN


def test_relative_reference_is_resolved_against_the_entry_it_stands_in():
    resource = {"subject": {"reference": "Patient/1"}}
    targets = {"http://there/fhir/Patient/1": "Patient/new"}
    assert links.follow(resource, targets, "http://there/fhir/Observation/9") == {
        "subject": {"reference": "Patient/new"}
    }
    assert links.follow(resource, targets, "http://elsewhere/fhir/Observation/9") == resource
    assert links.follow(resource, targets, URN) == resource


def test_conditional_references_are_found_with_their_path():
    resource = {
        "subject": {"reference": "Patient?identifier=s|1"},
        "performer": [{"reference": "Practitioner/1"}, {"reference": "Practitioner?name=x"}],
    }
    found = list(links.conditional_references(resource, "Bundle.entry[0].resource"))
    assert [(f.resource_type, f.query, f.expression) for f in found] == [
        ("Patient", "identifier=s|1", "Bundle.entry[0].resource.subject.reference"),
        ("Practitioner", "name=x", "Bundle.entry[0].resource.performer[1].reference"),
    ]


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json, max_size=4))
@settings(max_examples=40)
def test_rewriting_nothing_gives_the_same_object(resource):
    assert links.rewrite(resource, lambda _name, text: text) is resource


@given(st.dictionaries(st.text(), json, max_size=4))
@settings(max_examples=40)
def test_rewriting_leaves_the_given_resource_alone(resource):
    before = repr(resource)
    links.rewrite(resource, lambda _name, text: text + "!")
    assert repr(resource) == before
