"""What several processes let a gateway hand in is one rate, and not one each."""

from datetime import timedelta

import pytest

from fhir_server.app import now
from fhir_server.core.security.principal import Intake, Principal
from fhir_server.errors import Throttled
from fhir_server.operations.ingest_readings import ReadPayload
from fhir_server.rest.intake import Rates
from fhir_server.security.shared_rates import SharedRates
from fhir_server.store.security.open import open_security_store

RATE = 200
HUB = Principal("gateway", "hub", "hub", intake=Intake(per_minute=RATE))
BODY = [ReadPayload(position, b"{}", ()) for position in range(4)]


class Clock:
    def __init__(self):
        self.at = now()

    def __call__(self):
        return self.at


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shared(clock, store_kind, new_url, tmp_path):
    url = f"sqlite:///{tmp_path}/fhir.db" if store_kind == "sqlite" else new_url("mongo")
    stores = [open_security_store("", url, now) for _ in range(3)]
    yield [SharedRates(store, clock) for store in stores]
    for store in stores:
        store.close()


def test_processes_together_let_in_one_rate(shared, runner):
    async def send_until_refused():
        processes = [(Rates(lambda: 0.0), each) for each in shared]
        taken = 0
        while processes:
            for process in tuple(processes):
                try:
                    admission = await process[0].admit(HUB, process[1])
                except Throttled:
                    processes.remove(process)
                    continue
                admission.limit(BODY)
                taken += len(BODY)
        return taken

    taken = runner.run(send_until_refused())
    # Each may be a portion and a body ahead of what the others know.
    assert RATE <= taken <= RATE + 3 * (RATE * 0.05 + len(BODY))


def test_who_is_new_learns_what_others_have_let_in(shared, runner):
    shared[0].spend("hub", RATE, RATE + 10)

    async def admit(process):
        await Rates().admit(HUB, process)

    with pytest.raises(Throttled):
        runner.run(admit(shared[1]))


def test_what_is_left_fills_up_again(shared, clock):
    assert shared[0].spend("hub", RATE, RATE) == 0
    clock.at += timedelta(seconds=30)
    assert shared[1].spend("hub", RATE, 0) == RATE / 2
    # The clock of another machine is behind.
    clock.at -= timedelta(seconds=10)
    assert shared[2].spend("hub", RATE, 1) == RATE / 2 - 1
    clock.at += timedelta(minutes=5)
    assert shared[0].spend("hub", RATE, 1) == RATE - 1
