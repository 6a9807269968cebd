"""Where deliveries may go."""

import pytest

from fhir_server.outbox.endpoint import (
    EndpointError,
    OutboundPolicy,
    check_address,
    check_url,
)

CLOSED = OutboundPolicy()
OPEN = OutboundPolicy(allow_private=True)

PRIVATE = [
    "127.0.0.1",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "192.0.2.1",
    "::1",
    "::",
    "fc00::1",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "2002:7f00:1::",
    "64:ff9b::a00:1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address):
    with pytest.raises(EndpointError):
        check_address(address, CLOSED)
    check_address(address, OPEN)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_a_public_address_is_allowed(address):
    check_address(address, CLOSED)


@pytest.mark.parametrize(
    "url",
    [
        "http://registry.example/fhir",
        "https://localhost/fhir",
        "https://a.localhost/fhir",
        "https://127.0.0.1/fhir",
        "https://[::1]/fhir",
        "https://10.0.0.1:8443/fhir",
    ],
)
def test_http_and_this_machine_are_refused_unless_allowed(url):
    with pytest.raises(EndpointError):
        check_url(url, CLOSED)
    check_url(url, OPEN)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example",
        "ftp://registry.example/",
        "file:///etc/passwd",
        "https://",
        "https:///fhir",
        "https://user:secret@registry.example/",
        "https://registry.example/#part",
        "https://registry.example:99999/",
        "https://registry.example:0/",
        "https://registry.example/a b",
        "https://registry.example/\r\nHost: other",
        "https://[::1/",
    ],
)
def test_what_is_no_plain_web_address_is_always_refused(url):
    for policy in (CLOSED, OPEN):
        with pytest.raises(EndpointError):
            check_url(url, policy)


def test_a_public_https_url_is_allowed():
    check_url("https://registry.example:8443/fhir?tenant=7", CLOSED)


def test_a_refusal_does_not_repeat_the_credentials():
    with pytest.raises(EndpointError) as refusal:
        check_url("https://user:secret@registry.example/", OPEN)
    assert "secret" not in str(refusal.value)
