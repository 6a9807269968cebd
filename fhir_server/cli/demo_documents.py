"""The demo's documents: keys to sign with, a plan that is completed, and what was registered."""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import requests

from fhir_server.cli.demo_processes import Children, DemoError

CALLBACK = "/registry/documents"
_DOCTOR = "08765430300"
_SECONDS = 60.0
_NAMES = {"282": "referral", "262": "protocol of results"}

# OpenSSL finds the GOST engine by a configuration; the machine's own need not name it.
_ENGINE = """openssl_conf = conf
[conf]
engines = engines
[engines]
gost = gost
[gost]
engine_id = gost
default_algorithms = ALL
"""
_REQUEST = """[req]
distinguished_name = name
[name]
"""
_NEW_KEY = {
    "rsa": ("rsa:2048",),
    "gost": ("gost2012_256", "-pkeyopt", "paramset:A", "-md_gost12_256"),
}


def algorithm() -> str:
    """What the machine can sign with: "gost", "rsa", or "" without OpenSSL's command."""
    command = shutil.which("openssl")
    if command is None:
        return ""
    found = subprocess.run([command, "engine", "gost"], capture_output=True, check=False)  # noqa: S603
    return "gost" if found.returncode == 0 else "rsa"


def section(folder: Path, registry: str, signature: str) -> dict[str, Any]:
    """The settings of the document registry, with fresh keys in `folder`."""
    doctor = _key(folder, "doctor", signature)
    return {
        "url": f"{registry}/emdr",
        "client_entity_id": "7d4f7f2e-0000-4000-8000-000000000001",
        "signature": signature,
        "attend_seconds": 0.5,
        "retry_seconds": 1.0,
        "organization": {"oid": "1.2.643.5.1.13.13.12.2.77.1", "name": "Clinic No. 1"},
        "organization_key": _key(folder, "clinic", signature),
        "doctors": {_DOCTOR: doctor},
        "author": {"local_id": "1", "snils": _DOCTOR, "family": "Orlova", "given": "Marina"},
    }


def add_physician(server: str) -> None:
    """Whom the plans name as their author, with the number that a document needs."""
    resource = {
        "resourceType": "Practitioner",
        "id": "orlova",
        "identifier": [
            {"system": "https://pmp.example/fhir/NamingSystem/staff", "value": "DR-0417"},
            {"system": "https://fhir.ru/ig/core/systems/snils", "value": _DOCTOR},
        ],
        "name": [{"family": "Orlova", "given": ["Marina", "Sergeevna"]}],
    }
    _put(f"{server}/fhir/Practitioner/orlova", resource)


def complete_a_plan(server: str, plans: Sequence[dict[str, Any]]) -> None:
    """The hypertension plan is done: what was measured becomes a protocol."""
    for plan in plans:
        codes = {c.get("code") for each in plan["category"] for c in each.get("coding", ())}
        if "hypertension" in codes:
            _put(f"{server}/fhir/CarePlan/{plan['id']}", {**plan, "status": "completed"})


def wait(children: Children, registry: str, wanted: int) -> list[str]:
    """What the registry has registered, in words, when there is as much as wanted."""
    deadline = time.monotonic() + _SECONDS
    while True:
        children.check_alive()
        documents = requests.get(f"{registry}/documents", timeout=10).json()
        done = [each for each in documents if each["state"] == "registered"]
        if len(done) >= wanted or time.monotonic() > deadline:
            return [f"{_NAMES[each['kind']]}, registered as {each['emdr']}" for each in done]
        time.sleep(0.1)


def _key(folder: Path, name: str, signature: str) -> dict[str, str]:
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    configuration = folder / "openssl.cnf"
    configuration.write_text((_ENGINE if signature == "gost" else "") + _REQUEST)
    command = [
        *("openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-newkey", *_NEW_KEY[signature], "-keyout", str(key), "-out", str(certificate)),
    ]
    done = subprocess.run(  # noqa: S603 - our own arguments
        command,
        env={**os.environ, "OPENSSL_CONF": str(configuration)},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise DemoError("openssl could not make a key")
    return {"certificate": str(certificate.absolute()), "key": str(key.absolute())}


def _put(url: str, resource: dict[str, Any]) -> None:
    answer = requests.put(url, json=resource, timeout=30)
    if not answer.ok:
        raise DemoError(f"{answer.status_code} of {url}")
