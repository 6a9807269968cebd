"""The server is killed in the middle of an export: the job goes on, and holds each once."""

import json
import sqlite3

import requests

from fhir_server.core.bulk import job as export_job
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


def state(folder, status):
    """Of the job that is kept: whether it has begun, and whether it is not done."""
    connection = sqlite3.connect(folder / "exports" / "jobs.db")
    sql = "SELECT text FROM job WHERE name = ?"
    ((text,),) = connection.execute(sql, (status.rpartition("/")[2],)).fetchall()
    connection.close()
    job = export_job.parse(text)
    return job.as_of is not None, job.state == "waiting"


def test_an_export_outlives_the_process_that_makes_it(tmp_path):
    server = Server(tmp_path)
    with running(server):
        fill(server)
        for _ in range(5):
            asked = f"{server.url}/fhir/$export?_type=Patient,Basic&_since=2000-01-01T00:00:00Z"
            status = requests.get(asked, headers=ASYNC, timeout=10).headers["Content-Location"]
            wait_until(lambda status=status: state(tmp_path, status)[0], every=0.005)
            server.kill()
            _, is_cut_off = state(tmp_path, status)
            server.start()
            if is_cut_off:
                break
        assert is_cut_off, "it was never killed in the middle of one"
        # What comes behind the moment is in no file, whoever finishes them.
        late = {"resourceType": "Patient", "id": "late"}
        requests.put(f"{server.url}/fhir/Patient/late", json=late, timeout=10)
        wait_until(lambda: requests.get(status, timeout=10).status_code == 200, every=0.5)
        manifest = requests.get(status, timeout=10).json()
        names = []
        for each in manifest["output"]:
            lines = requests.get(each["url"], timeout=30).text.splitlines()
            assert len(lines) == each["count"]
            names += [json.loads(line)["id"] for line in lines]
        assert sorted(names) == sorted(f"p{n}" for n in range(PATIENTS))
        assert requests.delete(status, timeout=10).status_code == 202
        assert not (tmp_path / "exports" / status.rpartition("/")[2]).exists()
