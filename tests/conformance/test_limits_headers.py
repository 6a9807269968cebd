"""Every answer tells browsers what it is not: a page, a frame, a thing for a shared cache."""

import hashlib
import re
from base64 import b64encode

import pytest
import requests

from fhir_server.rest.security_headers import added_to

PATHS = [
    "/fhir/metadata",
    "/fhir/Patient/none-such",
    "/fhir/nothing/at/all/here",
    "/health/live",
    "/metrics",
    "/openapi.json",
    "/no/such/path",
    "/readings/none-such",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_answer_has_the_headers_once(server, path):
    answer = requests.get(f"{server.url}{path}", timeout=10)
    headers = answer.raw.headers
    for name, value in (
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "no-referrer"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; sandbox"),
    ):
        assert headers.getlist(name) == [value]
    assert len(headers.getlist("Cache-Control")) == 1
    # Not over plain HTTP: browsers ignore it there, and it would be a promise nobody made.
    assert "Strict-Transport-Security" not in headers


def test_the_page_loads_its_own_style_and_nothing_else(server):
    answer = requests.get(f"{server.url}/docs", timeout=20)
    policy = answer.headers["Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)[1]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert not re.search(r"<[^>]+ (style|on\w+)=", answer.text)


def test_over_tls_browsers_are_told_to_stay_with_it():
    assert b"strict-transport-security" in dict(added_to((), "https"))
    assert b"strict-transport-security" not in dict(added_to((), "http"))


def test_what_a_page_says_itself_stands():
    own = (b"content-security-policy", b"default-src 'self'")
    headers = added_to([own], "https")
    assert [pair for pair in headers if pair[0] == own[0]] == [own]


def test_a_stored_binary_cannot_act_as_a_page(client):
    page = b"<script>alert(1)</script>"
    made = client.send("POST", "Binary", data=page, headers={"Content-Type": "text/html"})
    assert made.status_code == 201
    got = requests.get(made.headers["Location"], headers={"Accept": "text/html"}, timeout=10)
    assert got.content == page
    assert "sandbox" in got.headers["Content-Security-Policy"]
    assert got.headers["X-Content-Type-Options"] == "nosniff"
