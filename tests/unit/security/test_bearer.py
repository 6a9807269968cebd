"""A token is believed for as long as was said, and then looked at again."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from fhir_server.core.security.principal import Principal
from fhir_server.errors import Unauthenticated
from fhir_server.security.bearer import BearerAuthenticator
from fhir_server.security.own_tokens import Verified
from fhir_server.security.registrations import Registrations
from fhir_server.security.revisions import Revisions
from fhir_server.store.security.open import open_security_store

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)
SCOPE = {"headers": [(b"authorization", b"Bearer abc")]}


class Issuer:
    """Says of a token, for five seconds each time, that it is good; until it is over."""

    def __init__(self):
        self.now = BEGUN
        self.over = BEGUN + timedelta(seconds=60)
        self.asked = 0

    async def read(self, _token):
        self.asked += 1
        if self.now >= self.over:
            raise Unauthenticated("the token is over")
        return Verified(Principal("system", "app"), self.now.timestamp() + 5)


@pytest.fixture
def issuer():
    return Issuer()


@pytest.fixture
def ask(issuer):
    store = open_security_store("", "sqlite:///:memory:", lambda: issuer.now)
    registrations = Registrations(store, lambda: issuer.now)
    found = BearerAuthenticator(issuer.read, registrations, Revisions(store), lambda: issuer.now)

    def ask(seconds):
        issuer.now = BEGUN + timedelta(seconds=seconds)
        return asyncio.run(found.authenticate(dict(SCOPE), {}))

    yield ask
    store.close()


def test_a_good_token_is_never_refused_between_two_looks(ask, issuer):
    for seconds in (0, 1, 4.9, 5, 5.1, 10, 59):
        assert ask(seconds).client_id == "app"
    assert issuer.asked == 4


def test_a_token_that_is_over_is_refused_each_time(ask):
    ask(58)
    for seconds in (63.1, 64):
        with pytest.raises(Unauthenticated):
            ask(seconds)
