"""Pages while others write: what existed throughout comes exactly once, in whatever order.

FHIR_SERVER_TEST_SCALE=10 pages through 20,000 resources.
"""

import os
import random
import threading
from collections import Counter

import pytest

from tests.conformance.conftest import Client, Server

SCALE = int(os.environ.get("FHIR_SERVER_TEST_SCALE", "1"))
SIZE = 2_000 * SCALE
WRITERS = 4
FAMILIES = ["Иванова", "Müller", "al", "Zuse", "O'Neil", "abc"]


def patient(resource_id, chance):
    return {
        "resourceType": "Patient",
        "id": resource_id,
        **({"birthDate": f"19{chance.randint(30, 99)}-01-01"} if chance.random() < 0.8 else {}),
        **({"name": [{"family": chance.choice(FAMILIES)}]} if chance.random() < 0.8 else {}),
    }


@pytest.fixture(scope="module")
def busy():
    """A server of many patients, and writers that never rest. Gives those never deleted."""
    chance = random.Random(7)
    with Server(max_page_size=1_000) as server:
        client = Client(server)
        ids = [f"p{number}" for number in range(SIZE)]
        for start in range(0, SIZE, 500):
            entry = [
                {
                    "resource": patient(each, chance),
                    "request": {"method": "PUT", "url": f"Patient/{each}"},
                }
                for each in ids[start : start + 500]
            ]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
            assert client.post("", bundle).status_code == 200
        mortal = set(ids[::10])
        stop = threading.Event()
        done = Counter()

        def write(number):
            own, mine = Client(server), random.Random(number)
            while not stop.is_set():
                act = mine.choice(("create", "update", "update", "delete"))
                if act == "create":
                    body = patient("x", mine)
                    answer = own.post("Patient", {k: v for k, v in body.items() if k != "id"})
                elif act == "update":
                    key = f"p{mine.randrange(SIZE) // 10 * 10 + mine.randint(1, 9)}"
                    answer = own.put(f"Patient/{key}", patient(key, mine))
                else:
                    key = f"p{mine.randrange(SIZE) // 10 * 10}"
                    answer = own.delete(f"Patient/{key}")
                assert answer.status_code in (200, 201, 204), answer.text
                done[act] += 1

        writers = [threading.Thread(target=write, args=(n,), daemon=True) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        yield client, set(ids) - mortal, done
        stop.set()
        for writer in writers:
            writer.join(10)
            assert not writer.is_alive()


def searched(client, path, relation):
    """The ids on each page, from `path` on in the direction of `relation`, and the last page."""
    page = client.get(path).json()
    pages = [page]
    while following := {link["relation"]: link["url"] for link in page["link"]}.get(relation):
        answer = client.get(following)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        pages.append(page)
    return [[entry["resource"]["id"] for entry in each.get("entry", ())] for each in pages], page


@pytest.mark.parametrize(
    "sort", ["birthdate", "-birthdate", "family", "-_lastUpdated", "-family,birthdate"]
)
def test_what_existed_throughout_comes_exactly_once(busy, sort):
    client, immortal, done = busy
    before = sum(done.values())
    pages, last = searched(client, f"Patient?_sort={sort}&_count=100", "next")
    found = Counter(each for page in pages for each in page)
    assert not [each for each, times in found.items() if times > 1]
    assert immortal <= found.keys()
    assert sum(done.values()) > before
    own = {link["relation"]: link["url"] for link in last["link"]}["self"]
    back, _ = searched(client, own, "previous")
    assert back[::-1] == pages
