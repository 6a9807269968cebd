"""Detached CMS signatures that OpenSSL verifies, with RSA and with GOST."""

import os
import subprocess
from pathlib import Path

import pytest

from adapters.national_registry.documents.signer import (
    ENGINE,
    KeyPair,
    OpensslSigner,
    is_gost_available,
)
from fhir_server.errors import DeliveryDeferred, DeliveryRejected

CONTENT = "Протокол\r\nс бинарными \x00 байтами\n".encode()
NEW_KEYS = {
    "rsa": ("rsa:2048",),
    "gost": ("gost2012_256", "-pkeyopt", "paramset:A", "-md_gost12_256"),
}


@pytest.fixture(params=["rsa", "gost"])
def signing(request, tmp_path):
    """The algorithm, a key pair, and the environment in which OpenSSL knows it."""
    if request.param == "gost" and not is_gost_available():
        # The checks install the engine; a user of the tests need not have it.
        assert not os.environ.get("CI"), "libengine-gost-openssl is missing"
        pytest.skip("OpenSSL has no GOST engine here")
    environment = dict(os.environ)
    if request.param == "gost":
        configuration = tmp_path / "openssl.cnf"
        configuration.write_text(ENGINE + "[req]\ndistinguished_name = dn\n[dn]\n")
        environment["OPENSSL_CONF"] = str(configuration)
    pair = KeyPair(tmp_path / "c.pem", tmp_path / "k.pem")
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=Doctor"]
    files = ["-keyout", str(pair.key), "-out", str(pair.certificate)]
    options = ["-newkey", *NEW_KEYS[request.param]]
    subprocess.run([*command, *options, *files], check=True, capture_output=True, env=environment)
    return request.param, pair, environment


def verifies(folder, content, signature, certificate, environment):
    (folder / "content").write_bytes(content)
    (folder / "signature").write_bytes(signature)
    command = [
        *("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-out", "/dev/null"),
        *("-in", str(folder / "signature"), "-content", str(folder / "content")),
        *("-CAfile", str(certificate)),
    ]
    return subprocess.run(command, capture_output=True, env=environment).returncode == 0


def test_openssl_verifies_what_was_signed_and_nothing_else(signing, tmp_path):
    algorithm, pair, environment = signing
    signature = OpensslSigner(algorithm).sign(CONTENT, pair)
    assert CONTENT not in signature
    assert verifies(tmp_path, CONTENT, signature, pair.certificate, environment)
    assert not verifies(tmp_path, CONTENT + b" ", signature, pair.certificate, environment)


def test_a_gost_signature_says_so(signing):
    algorithm, pair, _ = signing
    signature = OpensslSigner(algorithm).sign(CONTENT, pair)
    # 1.2.643.7.1.1.2.2: the digest of R 34.11-2012 with 256 bits.
    assert (bytes.fromhex("2a85030701010202") in signature) == (algorithm == "gost")


def test_a_key_of_another_certificate_is_refused(tmp_path, signing):
    algorithm, pair, _ = signing
    wrong = KeyPair(pair.certificate, Path(__file__))
    with pytest.raises(DeliveryRejected):
        OpensslSigner(algorithm).sign(CONTENT, wrong)


def test_a_signer_that_is_away_is_tried_again():
    with pytest.raises(DeliveryDeferred):
        OpensslSigner(command="/no/such/openssl").sign(CONTENT, KeyPair(Path("c"), Path("k")))
    assert not is_gost_available("/no/such/openssl")
