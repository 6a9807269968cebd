"""A killed process loses nothing it has acknowledged, and leaves nothing half done."""

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

WORKER = Path(__file__).with_name("crash_worker.py")
PUTS = 3


def start(url, name):
    return subprocess.Popen(
        [sys.executable, str(WORKER), url, name],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": ""},
    )


def test_what_was_acknowledged_survives_kill_9(store_kind, new_url, make_driver):
    url = new_url(store_kind)
    driver = make_driver(url)
    rng = random.Random(3)
    acknowledged = []
    for attempt in range(3):
        # Two at once: one dies while the other waits for its lock, or writes on.
        workers = [start(url, f"w{attempt}-{n}") for n in range(2)]
        for worker in workers:
            acknowledged.append(worker.stdout.readline().strip())
        time.sleep(rng.uniform(0.05, 0.4))
        for worker in workers:
            worker.kill()
            acknowledged += worker.stdout.read().split()
            worker.wait()
            worker.stdout.close()
    assert len(acknowledged) > 20
    assert len(acknowledged) == len(set(acknowledged))

    def find(tx):
        return tx.find("Patient", [("urn:crash", value) for value in acknowledged])

    found = driver.commit(find)
    assert {len(keys) for keys in found.values()} == {PUTS}
    assert found.keys() == {("urn:crash", value) for value in acknowledged}
    feed = driver.run(driver.store.changes(0, 100_000))
    assert [v.sequence for v in feed] == list(range(1, len(feed) + 1))
    # A decision is there as a whole or not at all, the unacknowledged ones too.
    parts = Counter(version.key.resource_id.rpartition("-")[0] for version in feed)
    assert set(parts.values()) == {PUTS + 1}
    assert driver.store.check().faults == ()
    driver.close()
