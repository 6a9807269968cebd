"""What all adapters' sections have in common."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from fhir_server.outbox.section import split_begin

MOSCOW = timezone(timedelta(hours=3))


@pytest.mark.parametrize("values", [{"url": "u"}, {"url": "u", "begin": "start"}])
def test_a_receiver_begins_where_the_store_does(values):
    assert split_begin("insurer", values) == ({"url": "u"}, None)


@pytest.mark.parametrize(
    ("begin", "moment"),
    [
        ("2026-11-01T00:00:00+03:00", datetime(2026, 11, 1, tzinfo=MOSCOW)),
        ("2026-11-01T00:00:00Z", datetime(2026, 11, 1, tzinfo=UTC)),
        (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
    ],
)
def test_a_receiver_may_begin_at_a_moment(begin, moment):
    assert split_begin("insurer", {"begin": begin}) == ({}, moment)


@pytest.mark.parametrize("begin", ["now", "2026-11-01", 7, datetime(2026, 11, 1), ""])  # noqa: DTZ001
def test_a_begin_that_is_no_certain_moment_is_refused(begin):
    with pytest.raises(ValueError, match=r"adapters\.insurer\.begin must be"):
        split_begin("insurer", {"begin": begin})
