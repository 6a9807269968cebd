"""After a long silence everything comes at once: out of order, twice, over a change of hands."""

import random
from datetime import UTC, datetime, timedelta

from tests.conformance.ward import pulse

START = datetime(2024, 3, 1, tzinfo=UTC)
HANDOVER = START + timedelta(days=3)


def test_a_week_at_once_lands_where_it_would_have_day_by_day(ward):
    device, serial = ward.device()
    (one, _), (other, _) = ward.patient(), ward.patient()
    ward.assign(
        device, one,
        timingPeriod={"start": "2024-03-01T00:00:00Z", "end": HANDOVER.isoformat()},
    )  # fmt: skip
    ward.assign(device, other, timingPeriod={"start": HANDOVER.isoformat()})
    times = [START + timedelta(minutes=30 * n) for n in range(7 * 48)]
    lines = [pulse(serial, time=t.isoformat(), rate=60 + n % 40) for n, t in enumerate(times)]
    chance = random.Random(7)
    sent = lines + chance.sample(lines, 50)
    chance.shuffle(sent)
    answer = ward.send_lines(sent)
    assert (answer["accepted"], answer["duplicate"]) == (len(lines), 50)
    for patient, first, last in ((one, 0, 3 * 48), (other, 3 * 48, 7 * 48)):
        found = ward.search(
            f"Observation?patient=Patient/{patient['id']}&code=8867-4&_sort=date&_count=500"
        )
        assert [o["valueQuantity"]["value"] for o in found] == [
            60 + n % 40 for n in range(first, last)
        ]
    # What came last is not what was measured last.
    last_of_one = ward.search(
        f"Observation?patient=Patient/{one['id']}&code=8867-4&_sort=-date&_count=1"
    )
    moment = datetime.fromisoformat(last_of_one[0]["effectiveDateTime"])
    assert moment == HANDOVER - timedelta(minutes=30)
