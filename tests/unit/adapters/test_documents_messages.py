"""The registry's messages: what is read of them, however they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.national_registry.documents import result, soap
from adapters.national_registry.documents.soap import Addressing
from adapters.national_registry.documents.xml_tree import XmlError, add, read, write

CALLBACK = "http://egisz.rosminzdrav.ru/iehr/emdr/callback/"
INNER = (
    "<{p}relatesToMessage>urn:uuid:1</{p}relatesToMessage><{p}localUid>u</{p}localUid>"
    "<{p}status>success</{p}status><{p}registryItem><{p}emdrId>e</{p}emdrId>"
    "<{p}registrationDateTime>2026-01-01T00:00:00Z</{p}registrationDateTime></{p}registryItem>"
)


def message(prefix="", wrapper="registerDocumentResult", inner=INNER):
    p = f"{prefix}:" if prefix else ""
    declared = f' xmlns:{prefix}="{CALLBACK}"' if prefix else ""
    body = inner.format(p=p)
    if wrapper:
        body = f"<{p}{wrapper}{declared}>{body}</{p}{wrapper}>"
    return f"<Envelope{declared}><Body>{body}</Body></Envelope>".encode()


@pytest.mark.parametrize(
    "raw",
    [
        message(),
        message("ns2"),
        message("anything"),
        message(wrapper=""),
        message("x", wrapper=""),
        message("ns2", "sendRegisterDocumentResultRequest"),
        message().decode().encode("utf-8-sig"),
    ],
)
def test_a_result_is_read_in_every_dress(raw):
    said = result.parse(raw)
    assert (said.relates_to, said.local_uid, said.is_success) == ("urn:uuid:1", "u", True)
    assert (said.emdr_id, said.registered_at, said.fault) == ("e", "2026-01-01T00:00:00Z", "")


def test_errors_are_read_with_and_without_their_list():
    item = "<code>NO_SNILS</code><message>m</message>"
    for errors in (f"<errors><item>{item}</item></errors>", f"<error>{item}</error>"):
        inner = f"<relatesToMessage>1</relatesToMessage><status>error</status>{errors}"
        said = result.parse(message(inner=inner))
        assert said.errors == (("NO_SNILS", "m"),)
        assert not said.is_success
        assert said.fault == ""


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (message().replace(b"</localUid>", b"</localId>"), "broken-xml"),
        (message()[:-20], "broken-xml"),
        (message().replace(b"success", b"perhaps"), "unknown-status"),
        (message().replace(b"<status>success</status>", b""), "no-status"),
        (message(inner="<status>success</status>"), "nameless"),
        (
            message(inner=INNER + "<errors><item><code>X</code></item></errors>"),
            "success-with-errors",
        ),
    ],
)
def test_a_result_that_cannot_be_acted_on_says_why(raw, fault):
    assert result.parse(raw).fault == fault


def test_broken_xml_still_names_its_document():
    said = result.parse(message("ns2")[:-30])
    assert (said.relates_to, said.local_uid) == ("urn:uuid:1", "u")


@given(st.binary(max_size=300))
def test_whatever_comes_is_read_or_named(raw):
    said = result.parse(raw)
    assert said.fault or said.relates_to or said.local_uid


@pytest.mark.parametrize(
    "raw",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b"<a>" * 1_000 + b"</a>" * 1_000,
        b"",
        b"<a/><b/>",
        b'<?xml version="1.0" encoding="no-such"?><a/>',
    ],
)
def test_unsafe_or_broken_xml_is_refused(raw):
    with pytest.raises(XmlError):
        read(raw)


@given(st.text(max_size=50))
def test_any_text_survives_or_loses_only_what_xml_cannot_hold(text):
    root, body = soap.envelope(Addressing("m", "a"))
    add(body, "ser:x", {"y": text}, text)
    kept = "".join(c for c in text if c in "\t\n\r" or (c >= "\x20" and c not in "\ufffe\uffff"))
    found = read(write(root)).first("x")
    assert "".join(found.text.split()) == "".join(kept.split())


def test_a_request_is_an_envelope_around_the_kept_fragment():
    fragment = (
        b"<ser:registerDocumentRequest><ser:localUid>u</ser:localUid></ser:registerDocumentRequest>"
    )
    body = soap.register_document(fragment, Addressing("urn:uuid:7", "registerDocument"), "client")
    root = read(body)
    assert fragment in body
    assert root.first("authInfo").text_of("clientEntityId") == "client"
    assert (root.text_of("MessageID"), root.text_of("Action")) == ("urn:uuid:7", "registerDocument")
    assert body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope')


def test_a_soap_fault_is_an_error_and_nonsense_is_neither():
    answer = soap.answer(read(soap.fault("Receiver", "t", Addressing("m", "a"))))
    assert (answer.is_success, answer.errors) == (False, (("SOAP_RECEIVER", ""),))
    assert soap.answer(read(b"<html/>")) == (False, (), "", "")
