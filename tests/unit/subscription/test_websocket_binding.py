"""What a websocket's client says, and that its tokens cannot be made, changed or outlived."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.websocket_binding import Bind, BindWithToken, parse, seal, unseal

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
KEY = b"k" * 32
IDS = st.lists(st.from_regex(r"[A-Za-z0-9\-.]{1,64}", fullmatch=True), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("bind 42", Bind("42")),
        ("bind: 42\n", Bind("42")),
        ("bind-with-token abc.def", BindWithToken("abc.def")),
        ("bind-with-token: abc.def", BindWithToken("abc.def")),
        ('{"type": "bind-with-token", "payload": {"token": "a.b"}}', BindWithToken("a.b")),
        ("bind", None),
        ("bind a/b", None),
        ("bind " + "x" * 65, None),
        ("unbind 42", None),
        ("{", None),
        ('{"type": "bind-with-token", "payload": {"token": 1}}', None),
        ('{"type": "bind-with-token", "payload": "x"}', None),
        ("", None),
        ('{"type": "bind-with-token", "payload": {"token": "\\ud800"}}', BindWithToken("\ud800")),
    ],
)
def test_what_is_asked(text, asked):
    assert parse(text) == asked


@given(st.text(st.characters()))
def test_anything_may_be_said(text):
    parse(text)
    assert unseal(text, NOW, KEY) is None


@given(IDS)
def test_a_token_names_its_subscriptions_until_its_time(ids):
    token = seal(ids, NOW, KEY)
    assert unseal(token, NOW - timedelta(milliseconds=1), KEY) == tuple(ids)
    assert unseal(token, NOW, KEY) is None
    assert unseal(token, NOW - timedelta(hours=1), b"other") is None


@given(IDS, st.data())
def test_a_changed_token_is_none(ids, data):
    token = seal(ids, NOW + timedelta(hours=1), KEY)
    place = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.sampled_from("ABCabc123-_."))
    changed = token[:place] + character + token[place + 1 :]
    assert unseal(changed, NOW, KEY) == (tuple(ids) if changed == token else None)
