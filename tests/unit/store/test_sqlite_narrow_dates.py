"""What a date binds is told without its SQL, and is the same."""

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.date_range import DateRange
from fhir_server.core.search.query import DateValue, Prefix
from fhir_server.store.sqlite import timeline
from fhir_server.store.sqlite.lookup import narrow_values

moments = st.integers(-(2**52), 2**52)
values = st.builds(
    lambda prefix, start, width: DateValue(prefix, DateRange(start, start + width)),
    st.sampled_from(Prefix),
    moments,
    st.integers(1, 2**45),
)


@given(st.lists(values, min_size=1, max_size=4))
def test_values_follow_each_other_as_their_marks_do(asked):
    compiled = timeline.narrow_dates(tuple((value,) for value in asked))
    assert compiled.values == tuple(bound for value in asked for bound in narrow_values(value))
    assert compiled.text.count("?") == len(compiled.values)


@given(values, moments, moments)
def test_the_text_is_one_for_all_values_of_a_prefix(value, start, end):
    other = DateValue(value.prefix, DateRange(start, end))
    assert timeline.narrow_dates(((value,),)).text == timeline.narrow_dates(((other,),)).text
