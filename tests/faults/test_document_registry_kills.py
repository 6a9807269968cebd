"""Workers, servers and the registry are killed: every document is registered once."""

import random
import time

import pytest

from tests.faults.kit import SCALE, wait_until
from tests.faults.registry_scene import Scene

PLANS = int(6 * SCALE)


@pytest.fixture
def scene(tmp_path):
    opened = Scene(tmp_path)
    yield opened
    opened.close()


def test_whoever_is_killed_each_document_is_registered_once(scene):
    chance = random.Random(5)
    scene.start_registry()
    scene.start_server("--no-deliver")
    worker = scene.start_worker()
    scene.set_fault("accept-then-error", 3)
    for number in range(PLANS):
        scene.enrol(f"p{number}", "completed" if number % 2 else "active", readings=2)
    for _ in range(3):
        time.sleep(chance.uniform(0.1, 0.5))
        worker.kill()
        worker.wait()
        worker = scene.start_worker()
    scene.server.kill()
    scene.registry.kill()
    scene.registry.wait()
    time.sleep(0.3)
    scene.start_registry()
    scene.start_server("--no-deliver")

    def is_done():
        return all(scene.states(f"p{number}") == ["registered"] for number in range(PLANS))

    wait_until(is_done, 90)
    documents = scene.documents()
    assert len(documents) == PLANS
    assert {each["state"] for each in documents} == {"registered"}
    # A document that was sent again found the registry refusing it, never taking it twice.
    assert {each["sends"] for each in documents} == {1}
    for each in documents:
        assert scene.file(each["uid"]) == scene.binary(each["uid"], "file")
