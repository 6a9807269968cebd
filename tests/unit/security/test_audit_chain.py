"""The chain tells what was removed, changed, put in between or put on a wrong key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.security.audit_chain import (
    GENESIS,
    ChainLink,
    chained,
    check_chain,
    format_link,
    parse_link,
)


def chain(texts, key=b"k", after=GENESIS):
    records = []
    for number, text in enumerate(texts):
        record = chained(after, 1_000 + number, text, key)
        records.append(record)
        after = ChainLink(record.sequence, record.digest)
    return records


texts = st.lists(st.binary(max_size=20), min_size=3, max_size=12)


@given(texts, st.binary(max_size=8))
def test_what_was_written_fits(written, key):
    assert list(check_chain(chain(written, key), GENESIS, key)) == []


@given(texts, st.data())
def test_a_record_that_was_removed_from_within_is_told(written, data):
    records = chain(written)
    number = data.draw(st.integers(0, len(records) - 2))
    del records[number]
    assert list(check_chain(records, GENESIS, b"k")) == [f"record {number + 1}: missing"]


@given(texts, st.data())
def test_a_record_that_was_changed_is_told_and_no_other(written, data):
    records = chain(written)
    number = data.draw(st.integers(0, len(records) - 1))
    changed = data.draw(st.sampled_from([{"text": b"other" * 9}, {"at": 999}]))
    records[number] = records[number]._replace(**changed)
    assert f"record {number + 1}: not what was written" in list(check_chain(records, GENESIS, b"k"))


@given(texts)
def test_a_chain_made_anew_with_another_key_is_told(written):
    forged = chain(written, b"")
    assert len(list(check_chain(forged, GENESIS, b"k"))) == len(written)


@given(texts, st.data())
def test_two_records_that_changed_places_are_told(written, data):
    records = chain(written)
    number = data.draw(st.integers(0, len(records) - 2))
    one, two = records[number : number + 2]
    records[number : number + 2] = [
        one._replace(text=two.text, digest=two.digest),
        two._replace(text=one.text, digest=one.digest),
    ]
    assert list(check_chain(records, GENESIS, b"k")) != []


def test_a_link_is_read_as_it_was_written():
    link = ChainLink(12, bytes(range(32)))
    assert parse_link(format_link(link)) == link


@pytest.mark.parametrize("text", ["", "12", "12:ab", ":" + "0" * 64, "x:" + "0" * 64])
def test_what_is_no_link_is_refused(text):
    with pytest.raises(ValueError, match=r"number:digest|fromhex"):
        parse_link(text)
