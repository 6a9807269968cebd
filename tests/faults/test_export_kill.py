"""The server is killed in the middle of an export: the job goes on, and holds each once."""

import json
import random
import time

import requests

from tests.faults.kit import SCALE, Server, running, wait_until

PATIENTS = int(2_000 * SCALE)
ASYNC = {"Prefer": "respond-async"}


def fill(server):
    for start in range(0, PATIENTS, 1_000):
        entries = [
            {
                "resource": {"resourceType": "Patient", "id": f"p{n}", "active": True},
                "request": {"method": "PUT", "url": f"Patient/p{n}"},
            }
            for n in range(start, min(start + 1_000, PATIENTS))
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        answer = requests.post(f"{server.url}/fhir", json=bundle, timeout=60)
        assert answer.status_code == 200, answer.text[:500]


def has_begun(server, status):
    answer = requests.get(status, timeout=10)
    assert answer.status_code in (200, 202), answer.text
    return answer.status_code == 200 or "type" in answer.headers["X-Progress"]


def test_an_export_outlives_the_process_that_makes_it(tmp_path):
    server = Server(tmp_path)
    rng = random.Random(3)
    with running(server):
        fill(server)
        asked = f"{server.url}/fhir/$export?_type=Patient,Basic&_since=2000-01-01T00:00:00Z"
        status = requests.get(asked, headers=ASYNC, timeout=10).headers["Content-Location"]
        # Killed before it is taken up, and with a file begun.
        server.kill()
        server.start()
        wait_until(lambda: has_begun(server, status), every=0.01)
        time.sleep(rng.uniform(0, 0.05))
        server.kill()
        server.start()
        # What comes behind the moment is in no file, whoever finishes them.
        late = {"resourceType": "Patient", "id": "late"}
        requests.put(f"{server.url}/fhir/Patient/late", json=late, timeout=10)
        wait_until(lambda: requests.get(status, timeout=10).status_code == 200, every=0.3)
        manifest = requests.get(status, timeout=10).json()
        names = []
        for each in manifest["output"]:
            lines = requests.get(each["url"], timeout=30).text.splitlines()
            assert len(lines) == each["count"]
            names += [json.loads(line)["id"] for line in lines]
        assert sorted(names) == sorted(f"p{n}" for n in range(PATIENTS))
        assert requests.delete(status, timeout=10).status_code == 202
        kept = tmp_path / "exports"
        wait_until(lambda: not [each for each in kept.iterdir() if each.is_dir()])
        code, said = server.check_store()
        assert code == 0, said
