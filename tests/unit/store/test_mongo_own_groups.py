"""What a process knows of the end of the commit order because nobody else wrote since."""

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.store.mongo.own_groups import OwnGroups

TYPES = ("A", "B", "C")
GROUPS = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from(TYPES), min_size=1, max_size=3)), max_size=8
)


@given(GROUPS, st.integers(0, 24), st.lists(st.sampled_from(TYPES), max_size=2))
def test_what_it_says_is_not_there_is_not_there(groups, after, wanted):
    own, order = OwnGroups(), []
    for is_own, put in groups:
        before = len(order)
        order += put
        if is_own:
            own.add(before, len(order), put)
    if own.has_none(after, len(order), wanted):
        assert not set(order[after:]) & set(wanted)


def test_what_it_wrote_itself_it_knows():
    own = OwnGroups()
    own.add(10, 12, ["A"])
    own.add(12, 15, ["B"])
    assert own.has_none(10, 15, ["C"])
    assert own.has_none(12, 15, ["A", "C"])
    assert not own.has_none(11, 15, ["A"])
    assert not own.has_none(9, 15, ["C"])


def test_what_others_wrote_meanwhile_it_does_not_know():
    own = OwnGroups()
    own.add(10, 12, ["A"])
    assert not own.has_none(10, 13, ["C"])
    own.add(13, 14, ["A"])
    assert not own.has_none(12, 14, ["C"])
    assert own.has_none(13, 14, ["C"])
