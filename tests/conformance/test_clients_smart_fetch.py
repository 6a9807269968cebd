"""smart-fetch (SMART Health IT's bulk client), which nobody here wrote, unmodified.

It signs in as a backend service, with `private_key_jwt`. `bulk_client/requirements.txt` pins
it and what it needs by version and digest; that is some hundred megabytes, so it is installed
once, into a cache outside the tree, where FHIR_SERVER_TEST_SCALE is above 1. Where it is
there already it takes seconds, and is always asked.
"""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import pytest
import requests

from tests.conformance.security_kit import secured_server
from tests.faults.kit import SCALE

LOCK = Path(__file__).parent / "bulk_client" / "requirements.txt"
PATIENTS = max(3, int(100 * (SCALE - 1)))


@pytest.fixture(scope="module")
def program():
    """The client's program, installed as the lock says."""
    digest = hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    target = cache / "fhir-server-tests" / f"smart-fetch-{digest}"
    found = target / "bin" / "smart-fetch"
    if found.is_file():
        return found
    if SCALE <= 1:
        pytest.skip("installed with FHIR_SERVER_TEST_SCALE above 1")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        # Only what is whole gets the name: a program knows its own folder, so it is made there.
        (Path(temporary) / "lock").write_bytes(LOCK.read_bytes())
        venv.create(target, with_pip=True, clear=True)
        command = [target / "bin" / "python", "-m", "pip", "install", "-q", "--require-hashes"]
        done = subprocess.run(
            [*command, "-r", str(Path(temporary) / "lock")],
            capture_output=True,
            text=True,
            timeout=230,
        )
        assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def secured(tmp_path_factory):
    with secured_server(tmp_path_factory.mktemp("secured")) as running:
        yield running


class Fetching:
    """A registry with its key in a file, as the client wants it."""

    def __init__(self, program, secured, folder):
        self.program = program
        self.secured = secured
        self.folder = folder
        self.backend = secured.backend(scopes="system/*.rs")
        key = {**self.backend.key.as_dict(private=True), "alg": "ES384", "key_ops": ["sign"]}
        self.key = folder / "key.jwks"
        self.key.write_text(json.dumps({"keys": [key]}))

    def run(self, name, *arguments):
        """What it put into a folder: ids by type, and what it logged by event."""
        target = self.folder / name
        command = [
            self.program, "bulk", target, "--fhir-url", self.secured.fhir, "--smart-client-id",
            self.backend.client_id, "--smart-key", self.key, "--no-default-filters", *arguments,
        ]  # fmt: skip
        done = subprocess.run(map(str, command), capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout + done.stderr
        ids = {}
        for path in target.glob("[A-Z]*.ndjson.gz"):
            for line in gzip.decompress(path.read_bytes()).splitlines():
                resource = json.loads(line)
                ids.setdefault(resource["resourceType"], set()).add(resource["id"])
        log = [json.loads(line) for line in (target / "log.ndjson").read_text().splitlines()]
        return ids, {each["eventId"]: each["eventDetail"] for each in log}


@pytest.fixture
def fetching(program, secured, tmp_path):
    return Fetching(program, secured, tmp_path)


def put(secured, token, *resources):
    for each in resources:
        answer = requests.put(
            f"{secured.fhir}/{each['resourceType']}/{each['id']}",
            json=each,
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        assert answer.ok, answer.text


def observation(name, patient):
    return {
        "resourceType": "Observation", "id": name, "status": "final", "code": {"text": "pulse"},
        "subject": {"reference": f"Patient/{patient}"},
    }  # fmt: skip


def test_a_registry_takes_all_and_then_what_is_new(fetching, secured):
    token = secured.backend().token()
    for n in range(PATIENTS):
        patient = {"resourceType": "Patient", "id": f"p{n}"}
        put(secured, token, patient, observation(f"o{n}", f"p{n}"))
    kinds = ("--type", "Patient,Observation")
    ids, log = fetching.run("all", *kinds)
    numbers = range(PATIENTS)
    assert ids == {"Patient": {f"p{n}" for n in numbers}, "Observation": {f"o{n}" for n in numbers}}
    since = log["status_complete"]["transactionTime"]
    put(secured, token, observation("new", "p0"))
    requests.delete(
        f"{secured.fhir}/Observation/o1", headers={"Authorization": f"Bearer {token}"}, timeout=10
    )
    ids, log = fetching.run("new", *kinds, "--since", since, "--since-mode", "updated")
    # The last one of before has the very moment that is asked from, and comes again.
    assert ids == {"Observation": {"new", f"o{PATIENTS - 1}"}}
    assert log["manifest_complete"]["totalDeletedFileCount"] == 1
    ids, _ = fetching.run("few", "--type", "Observation", "--type-filter", "Observation?_id=o0,o2")
    assert ids == {"Observation": {"o0", "o2"}}
