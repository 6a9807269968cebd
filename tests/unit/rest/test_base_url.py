"""The base URL of links, behind proxies and without."""

import pytest

from fhir_server.rest.base_url import BaseUrls

PROXY = "10.0.0.7"


def find(headers, client=PROXY, trusted=("10.0.0.0/8",), configured="", root_path=""):
    scope = {
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "client": (client, 1),
        "root_path": root_path,
    }
    return BaseUrls(configured, trusted).find(scope, {"host": "inside:8080", **headers})


def test_configured_base_wins():
    headers = {"x-forwarded-host": "outside"}
    assert find(headers, configured="https://ehr.example/fhir/") == "https://ehr.example/fhir"


def test_host_of_the_request_is_the_base():
    assert find({}) == "http://inside:8080/fhir"
    assert find({}, root_path="/api") == "http://inside:8080/api/fhir"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"x-forwarded-host": "out", "x-forwarded-proto": "https"}, "https://out/fhir"),
        ({"x-forwarded-host": "evil, out"}, "http://out/fhir"),
        ({"x-forwarded-host": "out", "x-forwarded-port": "8443"}, "http://out:8443/fhir"),
        (
            {
                "x-forwarded-host": "out",
                "x-forwarded-proto": "https",
                "x-forwarded-port": "443",
            },
            "https://out/fhir",
        ),
        ({"x-forwarded-host": "out", "x-forwarded-prefix": "/a/b/"}, "http://out/a/b/fhir"),
        ({"forwarded": "for=1.2.3.4;host=out;proto=https"}, "https://out/fhir"),
        ({"forwarded": 'host="[::1]:8443";proto=https'}, "https://[::1]:8443/fhir"),
        ({"forwarded": "host=evil, host=out"}, "http://out/fhir"),
    ],
)
def test_trusted_proxy_is_believed(headers, expected):
    assert find(headers) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": "evil"},
        {"forwarded": "host=evil"},
        {"x-forwarded-proto": "https"},
    ],
)
def test_stranger_is_not_believed(headers):
    assert find(headers, client="192.0.2.1") == "http://inside:8080/fhir"
    assert find(headers, trusted=()) == "http://inside:8080/fhir"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-forwarded-host": 'evil"><script>'},
        {"x-forwarded-host": "a/b"},
        {"x-forwarded-proto": "javascript"},
        {"x-forwarded-prefix": "//evil"},
        {"x-forwarded-prefix": "/a b"},
    ],
)
def test_malformed_header_is_as_if_it_were_not_there(headers):
    assert find(headers) == "http://inside:8080/fhir"


def test_malformed_host_is_replaced_by_the_address_we_listen_on():
    assert find({"host": "evil/path"}) == "http://127.0.0.1:8080/fhir"
