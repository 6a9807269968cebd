from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import DateRange
from fhir_server.core.identity import ResourceKey
from fhir_server.core.monitoring.assignment import Assignment, holders
from fhir_server.core.monitoring.correction import concerned

STATEMENT = ResourceKey("DeviceUseStatement", "s")
DEVICES = [ResourceKey("Device", name) for name in "de"]
PATIENTS = [ResourceKey("Patient", name) for name in "ab"]


@st.composite
def held(draw):
    start = draw(st.integers(0, 20))
    end = draw(st.integers(start + 1, 30))
    leaving = draw(st.sampled_from([end, max(start, end - 2)]))
    patient = draw(st.sampled_from(PATIENTS))
    assignment = Assignment(STATEMENT, patient, DateRange(start, end), leaving)
    return draw(st.sampled_from(DEVICES)), assignment


@given(before=st.none() | held(), after=st.none() | held())
def test_outside_the_stretches_nobody_has_anything_else(before, after):
    found = concerned(before, after)
    # Another who takes over at the last second shows where the leaving counts.
    taker = Assignment(STATEMENT, ResourceKey("Patient", "c"), DateRange(0, 40), 40)
    for device in DEVICES:
        for instant in range(32):
            if any(d == device and s.start <= instant < s.end for d, s in found):
                continue
            then, now = (
                [held[1]] if held and held[0] == device else [] for held in (before, after)
            )
            assert holders(then, instant) == holders(now, instant)
            assert holders([*then, taker], instant) == holders([*now, taker], instant)


def test_handing_back_leaves_the_history_alone():
    open_end = Assignment(STATEMENT, PATIENTS[0], DateRange(0, 1000), 1000)
    ended = Assignment(STATEMENT, PATIENTS[0], DateRange(0, 500), 500)
    device = DEVICES[0]
    assert concerned((device, open_end), (device, ended)) == ((device, DateRange(500, 1000)),)


@given(held())
def test_what_says_the_same_concerns_nothing(same):
    assert concerned(same, same) == ()
