"""Signed tokens: read by our choice of keys and algorithms; keys at a URL come and go."""

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey

from fhir_server.errors import StoreUnavailable, Unauthenticated
from fhir_server.security.bearer import bearer_token
from fhir_server.security.remote_keys import RemoteKeys
from fhir_server.security.signed_token import parse_keys, read_header, verify

KEY = ECKey.generate_key("P-256", {"kid": "a"})
PARTS = st.lists(st.text("eyJ09az-_.", max_size=12), min_size=3)


def token(key=KEY, algorithm="ES256", **header):
    header = {"alg": algorithm, "kid": key.kid, **header}
    return jws.serialize_compact(header, json.dumps({"sub": "x"}), key, algorithms=[algorithm])


def public(*keys):
    return {"keys": [key.as_dict(private=False) for key in keys]}


@given(st.text(max_size=60) | PARTS.map(".".join))
def test_any_text_is_a_token_or_refused(text):
    for read in (read_header, lambda text: verify(text, parse_keys(public(KEY)), ("ES256",))):
        try:
            read(text)
        except Unauthenticated:
            continue


@given(st.lists(st.tuples(st.sampled_from([b"authorization", b"x"]), st.binary(max_size=40))))
def test_any_headers_hold_one_token_or_are_refused(headers):
    try:
        found = bearer_token(headers)
    except Unauthenticated:
        return
    assert found.isascii()
    assert sum(name == b"authorization" for name, _ in headers) == 1


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": [{}] * 101}, "x", 7])
def test_what_is_no_jwks_is_told(document):
    with pytest.raises(ValueError, match="JWKS"):
        parse_keys(document)


def test_keys_that_do_not_sign_are_passed_over():
    modulus = base64.urlsafe_b64encode(b"\xff" * 128).decode().rstrip("=")
    small = {"kty": "RSA", "n": modulus, "e": "AQAB", "kid": "small"}
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
    encrypting = {**KEY.as_dict(private=False), "use": "enc", "kid": "enc"}
    odd = {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "odd"}
    listed = {"keys": [small, secret, encrypting, odd, "x", None]}
    assert len(parse_keys(listed)) == 0


def test_an_algorithm_has_to_be_its_keys():
    keys = parse_keys(public(KEY))
    assert verify(token(), keys, ("ES256",)) == {"sub": "x"}
    for algorithms in (("RS256",), ("ES384",), ()):
        with pytest.raises(Unauthenticated):
            verify(token(), keys, algorithms)
    bound = parse_keys({"keys": [{**KEY.as_dict(private=False), "alg": "ES384"}]})
    with pytest.raises(Unauthenticated):
        verify(token(), bound, ("ES256", "ES384"))


class Source:
    """Keys at a URL, with a clock that goes when told."""

    def __init__(self, *keys):
        self.document = public(*keys)
        self.fetched = 0
        self.seconds = 1_000.0
        self.remote = RemoteKeys(lambda: "https://x", self.fetch, lambda: self.seconds)

    def fetch(self, _url):
        self.fetched += 1
        if self.document is None:
            raise StoreUnavailable("away")
        return json.dumps(self.document).encode()

    async def verify(self, text):
        return await self.remote.verify(text, ("ES256",))


def test_many_who_come_at_once_fetch_once():
    source = Source(KEY)

    async def crowd():
        await asyncio.gather(*(source.verify(token()) for _ in range(50)))

    asyncio.run(crowd())
    assert source.fetched == 1


def test_keys_outlive_their_server_being_away_and_are_looked_for_again():
    source = Source(KEY)

    async def live():
        await source.verify(token())
        source.document = None
        source.seconds += 3_600
        await source.verify(token())
        before = source.fetched
        await source.verify(token())
        assert source.fetched == before
        source.seconds += 60
        await source.verify(token())
        assert source.fetched == before + 1

    asyncio.run(live())


def test_a_server_that_was_never_there_is_asked_again_only_after_a_while():
    source = Source(KEY)
    source.document = None

    async def live():
        for _ in range(5):
            with pytest.raises(StoreUnavailable):
                await source.verify(token())
        assert source.fetched == 1
        source.document = public(KEY)
        source.seconds += 10
        await source.verify(token())

    asyncio.run(live())


def test_made_up_keys_are_looked_for_twice_a_minute_at_the_most():
    source = Source(KEY)
    made_up = token(ECKey.generate_key("P-256", {"kid": "made-up"}))

    async def live():
        for _ in range(60):
            source.seconds += 1
            with pytest.raises(Unauthenticated):
                await source.verify(made_up)
            await source.verify(token())

    asyncio.run(live())
    assert source.fetched <= 4
