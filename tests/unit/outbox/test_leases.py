"""What is in hand stays ours for as long as it takes, and not a lease longer."""

import threading
import time

from fhir_server.errors import StoreUnavailable
from fhir_server.outbox.leases import Leases


class Ledger:
    def __init__(self):
        self.renewed = []
        self.is_away = False

    def renew(self, deliveries, owner, lease):
        if self.is_away:
            raise StoreUnavailable("away")
        self.renewed.append((tuple(deliveries), owner, lease))


def test_what_is_held_is_renewed_until_it_is_let_go():
    ledger, stopping = Ledger(), threading.Event()
    leases = Leases(ledger, "me", 0.3, stopping)
    leases.start()
    with leases.holding(("d",), time.monotonic()) as held:
        time.sleep(0.6)
        assert held.is_safe
        assert set(ledger.renewed) == {(("d",), "me", 0.3)}
    stopping.set()
    count = len(ledger.renewed)
    time.sleep(0.3)
    assert len(ledger.renewed) - count <= 1


def test_nothing_is_begun_when_the_lease_could_not_be_renewed():
    ledger = Ledger()
    ledger.is_away = True
    leases = Leases(ledger, "me", 0.2, threading.Event())
    with leases.holding(("d",), time.monotonic()) as held:
        assert held.is_safe
        time.sleep(0.15)
        leases.renew()
        assert not held.is_safe
        ledger.is_away = False
        leases.renew()
        assert held.is_safe
