"""Page tokens: what was sealed comes back, and nothing else does."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.core.search import cursor
from fhir_server.core.search.cursor import PageState
from fhir_server.core.search.query import Cursor
from fhir_server.errors import InvalidSearch

SECRET = bytes(range(32))
NONCE = b"n" * cursor.NONCE_BYTES
STATE = PageState(
    "Patient",
    (("name", "Иванов"), ("_sort", "-birthdate")),
    Cursor((123, "ivanov", None, "1.50"), 42),
    77,
    1_700_000_000,
)

states = st.builds(
    PageState,
    st.none() | st.text(max_size=20),
    st.lists(st.tuples(st.text(max_size=20), st.text(max_size=50)), max_size=5).map(tuple),
    st.builds(
        Cursor,
        st.lists(
            st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20), max_size=3
        ).map(tuple),
        st.integers(0, 2**63 - 1),
    ),
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**40),
)


@given(
    states,
    st.binary(min_size=cursor.NONCE_BYTES, max_size=cursor.NONCE_BYTES),
    st.text(max_size=10),
)
def test_what_was_sealed_comes_back(state: PageState, nonce: bytes, bound_to: str) -> None:
    token = cursor.encode(state, SECRET, nonce, bound_to)
    assert cursor.decode(token, SECRET, bound_to) == state


def test_a_token_is_safe_in_a_url_and_tells_nothing() -> None:
    token = cursor.encode(STATE, SECRET, NONCE)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"ivanov" not in raw
    assert b"Patient" not in raw


def test_the_same_state_makes_another_token_with_another_nonce() -> None:
    other = cursor.encode(STATE, SECRET, b"m" * cursor.NONCE_BYTES)
    assert cursor.encode(STATE, SECRET, NONCE) != other


def test_every_changed_character_is_noticed() -> None:
    token = cursor.encode(STATE, SECRET, NONCE)
    for n, character in enumerate(token):
        changed = token[:n] + ("A" if character != "A" else "B") + token[n + 1 :]
        try:
            found = cursor.decode(changed, SECRET)
        except InvalidSearch:
            continue
        # The last character may carry bits that mean nothing.
        assert n == len(token) - 1
        assert found == STATE


@pytest.mark.parametrize("token", ["", "A", "AQ", "*", "ж", "AQ" * 100, "=" * 50, "A" * 200_000])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidSearch):
        cursor.decode(token, SECRET)


def test_a_shortened_token_is_refused() -> None:
    token = cursor.encode(STATE, SECRET, NONCE)
    for length in range(len(token)):
        with pytest.raises(InvalidSearch):
            cursor.decode(token[:length], SECRET)


def test_a_token_of_another_secret_or_for_somebody_else_is_refused() -> None:
    token = cursor.encode(STATE, SECRET, NONCE, "doctor")
    assert cursor.decode(token, SECRET, "doctor") == STATE
    for secret, bound_to in [(bytes(32), "doctor"), (SECRET, "nurse"), (SECRET, "")]:
        with pytest.raises(InvalidSearch):
            cursor.decode(token, secret, bound_to)


def test_keys_of_the_wrong_size_are_refused() -> None:
    with pytest.raises(ValueError, match="nonce"):
        cursor.encode(STATE, SECRET, b"short")
    with pytest.raises(ValueError, match="secret"):
        cursor.encode(STATE, b"short", NONCE)


def test_a_long_search_makes_a_bounded_token() -> None:
    ids = ",".join(f"018f{n:04x}-0000-7000-8000-000000000000" for n in range(1_000))
    state = STATE._replace(params=(("_id", ids),))
    assert len(cursor.encode(state, SECRET, NONCE)) < 10_000
