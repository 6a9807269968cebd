"""Two servers and a worker on one store: one resource each, pages valid at either of them."""

import json
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from adapters.national_registry.translate import SNILS_SYSTEM
from fhir_server.core.mapping.key import IDENTIFIER_SYSTEM
from tests.faults.kit import (
    SCALE,
    Server,
    Writer,
    assert_each_once,
    assert_sound,
    running,
    wait_until,
)
from tests.faults.kit import registry as running_registry
from tests.faults.test_ingest_kill import enrol
from tests.provision import mongod as provision

CREATES = int(20 * SCALE)
READINGS = int(25 * SCALE)
DEVICES = 2


@pytest.fixture(params=["sqlite", "mongo"])
def store_url(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'fhir.db'}"
        return
    if os.environ.get("FHIR_SERVER_TEST_MONGODB"):
        pytest.skip("the processes get a MongoDB of their own")
    with provision.node(tmp_path / "mongod") as node:
        yield node.url("processes")


@pytest.fixture
def registry(tmp_path):
    with running_registry(tmp_path) as url:
        yield url


def send_all(url):
    """Every reading of every device, in lists of a few; the verdicts."""
    verdicts = Counter()
    for device in range(DEVICES):
        for start in range(0, READINGS, 5):
            lines = [
                json.dumps(
                    {
                        "type": "Heart Rate",
                        "time": f"2024-01-02T{minute // 60:02d}:{minute % 60:02d}:00Z",
                        "device": f"device-{device}",
                        "values": {"beatsPerMinute": 40 + minute % 100},
                    }
                )
                for minute in range(start, min(start + 5, READINGS))
            ]
            answer = requests.post(
                f"{url}/readings/iot-hub",
                data="\n".join(lines),
                headers={"Content-Type": "application/x-ndjson"},
                timeout=60,
            )
            assert answer.status_code == 200, answer.text
            verdicts.update(result["verdict"] for result in answer.json()["results"])
    return verdicts


def pages_in_turns(servers, path):
    """The ids of a search whose every page is asked of another server."""
    ids, link, turn = [], f"{servers[0].url}/fhir/{path}", 0
    while link:
        bundle = requests.get(link, timeout=60)
        assert bundle.status_code == 200, bundle.text
        bundle = bundle.json()
        ids += [entry["resource"]["id"] for entry in bundle.get("entry", ())]
        turn += 1
        links = {part["relation"]: part["url"] for part in bundle["link"]}
        link = links.get("next")
        if link:
            link = link.replace(servers[(turn - 1) % 2].url, servers[turn % 2].url)
    return ids, turn


def name_for_the_registry(url, number):
    identifier = [{"system": SNILS_SYSTEM, "value": f"{number}"}]
    patient = {"resourceType": "Patient", "id": f"patient-{number}", "identifier": identifier}
    answer = requests.put(f"{url}/fhir/Patient/patient-{number}", json=patient, timeout=30)
    assert answer.status_code == 200, answer.text


def delivered(registry):
    answer = requests.get(f"{registry}/fhir/Observation", params={"_count": 100_000}, timeout=20)
    return [entry["resource"]["identifier"][0]["value"] for entry in answer.json().get("entry", ())]


def test_two_servers_and_a_worker_on_one_store_make_one_of_each(tmp_path, store_url, registry):
    adapters = json.dumps({"national-registry": {"url": f"{registry}/fhir"}})
    settings = {"adapters": adapters, "allow_private_endpoints": "1"}
    servers = Server(tmp_path, store_url, **settings), Server(tmp_path, store_url, **settings)
    urls = [server.url for server in servers]
    with running(*servers):
        worker = servers[0].run("deliver")
        try:
            for number in range(DEVICES):
                enrol(urls[number % 2], number)
                name_for_the_registry(urls[0], number)
            writers = [Writer([url], "same") for url in urls for _ in range(2)]
            never = threading.Event()
            with ThreadPoolExecutor(8) as pool:
                creating = [pool.submit(writer.run, never, CREATES) for writer in writers]
                sending = [pool.submit(send_all, url) for url in urls]
                for done in creating:
                    done.result()
                verdicts = sum((sent.result() for sent in sending), Counter())
            assert verdicts == {"accepted": DEVICES * READINGS, "duplicate": DEVICES * READINGS}
            for url in urls:
                assert_each_once(url, writers)
                assert len(writers[0].acknowledged) == CREATES
            ids, turns = pages_in_turns(servers, "Observation?_sort=-date&_count=7")
            assert turns > 3
            assert len(ids) == len(set(ids)) == DEVICES * READINGS
            expected = {
                part["value"]
                for entry in servers[0].get("Observation", _count=1_000).json()["entry"]
                for part in entry["resource"]["identifier"]
                if part["system"] == IDENTIFIER_SYSTEM
            }
            wait_until(lambda: len(delivered(registry)) >= len(expected))
            assert sorted(delivered(registry)) == sorted(expected)
            assert requests.get(f"{registry}/counts", timeout=5).json()["duplicates"] == 0
        finally:
            worker.terminate()
            assert worker.wait(20) == 0
        assert_sound(servers[1])
