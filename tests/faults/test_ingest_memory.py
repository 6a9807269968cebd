"""The server's memory follows neither the length of an upload nor what was stored before."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

SCALE = float(os.environ.get("FHIR_SERVER_TEST_SCALE", "1"))
UPLOAD_BYTES = int(48_000_000 * SCALE)
WARM_BYTES = 6_000_000
PAYLOAD_BYTES = 50_000
# Well below what holding the body would cost; the store fills its page cache meanwhile,
# which in a long run comes to its full size.
MAY_GROW = min(UPLOAD_BYTES // 2, 100_000_000)

READINGS = int(8_000 * SCALE)
A_REQUEST = 4_000
PATIENTS = 200
# The caches of names, numbers and pages are bounded, and fill up at first.
STORED_MAY_GROW = 60_000_000


@pytest.fixture
def server(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path / "server.log").open("wb")
    environment = {
        **os.environ,
        "FHIR_SERVER_STORE": f"sqlite:///{tmp_path / 'fhir.db'}",
        "FHIR_SERVER_AUTH": "none",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "fhir_server", "serve", "--port", str(port), "--no-deliver"],
        env=environment,
        stdout=log,
        stderr=log,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        while not is_ready(url):
            assert process.poll() is None, Path(log.name).read_text()
            time.sleep(0.05)
        yield url, process.pid
    finally:
        process.kill()
        process.wait()
        log.close()


def is_ready(url):
    try:
        return requests.get(f"{url}/health/ready", timeout=2).status_code == 200
    except requests.RequestException:
        return False


def resident(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def upload(url, first, size):
    """Send `size` bytes of lines from minute `first` on; the answer and the next minute."""
    sent = 0
    minute = first

    def lines():
        nonlocal sent, minute
        start = datetime(2020, 1, 1, tzinfo=UTC)
        while sent < size:
            payload = {
                "type": "Heart Rate",
                "time": (start + timedelta(minutes=minute)).isoformat(),
                "device": "device-1",
                "values": {"beatsPerMinute": 70},
                "correlation": "x" * PAYLOAD_BYTES,
            }
            line = json.dumps(payload).encode() + b"\n"
            sent += len(line)
            minute += 1
            yield line

    answer = requests.post(
        f"{url}/readings/iot-hub",
        data=lines(),
        headers={"Content-Type": "application/x-ndjson"},
        timeout=200,
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["accepted"] == minute - first
    return minute


def enrol(url, count):
    """So many patients, each with a device of its own, named by its serial."""
    entries = []
    for number in range(count):
        patient, device = f"p-{number}", f"device-{number}"
        use = {
            "resourceType": "DeviceUseStatement",
            "id": f"u-{number}",
            "status": "active",
            "subject": {"reference": f"Patient/{patient}"},
            "device": {"reference": f"Device/{device}"},
            "timingPeriod": {"start": "2019-01-01"},
        }
        identifier = [{"system": "https://maker.example/serial", "value": device}]
        for resource in (
            {"resourceType": "Patient", "id": patient},
            {"resourceType": "Device", "id": device, "identifier": identifier},
            use,
        ):
            path = f"{resource['resourceType']}/{resource['id']}"
            entries.append({"resource": resource, "request": {"method": "PUT", "url": path}})
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert requests.post(f"{url}/fhir/", json=bundle, timeout=60).status_code == 200


def pressures(first, count):
    """Lines of `count` blood pressures, patients taking turns."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    return b"".join(
        json.dumps(
            {
                "type": "Blood Pressure",
                "time": (start + timedelta(seconds=number)).isoformat(),
                "device": f"device-{number % PATIENTS}",
                "values": {"systolic": 100 + number % 97, "diastolic": 40 + number % 53},
            }
        ).encode()
        + b"\n"
        for number in range(first, first + count)
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.timeout(240 * max(1, SCALE))
def test_memory_stays_flat_while_readings_are_stored(server):
    url, pid = server
    enrol(url, PATIENTS)
    session = requests.Session()
    resident_after = []
    for first in range(0, READINGS, A_REQUEST):
        count = min(A_REQUEST, READINGS - first)
        answer = session.post(
            f"{url}/readings/iot-hub",
            data=pressures(first, count),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=200,
        )
        assert answer.json()["accepted"] == count
        resident_after.append(resident(pid))
    warm = resident_after[len(resident_after) // 5]
    assert resident_after[-1] - warm < STORED_MAY_GROW, resident_after[::25]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_stays_flat_while_a_long_upload_streams_through(server):
    url, pid = server
    enrol(url, 2)
    minute = upload(url, 0, WARM_BYTES)
    before = resident(pid)
    most = before
    done = threading.Event()

    def watch():
        nonlocal most
        while not done.wait(0.05):
            most = max(most, resident(pid))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        upload(url, minute, UPLOAD_BYTES)
    finally:
        done.set()
        watching.join()
    assert most - before < MAY_GROW
