"""Several processes on one security store: what one takes back no other lets in."""

import asyncio
import json
import secrets
import time
from datetime import timedelta

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from fhir_server.app import now
from fhir_server.core.security.registration import Client, Gateway
from fhir_server.errors import StoreUnavailable, Unauthenticated
from fhir_server.security.bearer import BearerAuthenticator
from fhir_server.security.client_proof import ASSERTION
from fhir_server.security.embedded import open_embedded
from fhir_server.security.oauth_error import OAuthError
from fhir_server.security.own_tokens import Grant
from fhir_server.security.registrations import Registrations
from fhir_server.security.revisions import FAR_SECONDS, Revisions
from fhir_server.store.security.open import open_security_store

BASE = "https://fhir.example/fhir"
TOKEN_URL = "https://fhir.example/auth/token"


def no_fetch(_url):
    raise StoreUnavailable("nothing is fetched here")


class Process:
    """What one process of a server has open."""

    def __init__(self, url):
        self.store = open_security_store("", url, now)
        self.registrations = Registrations(self.store, now)
        self.embedded = open_embedded(self.store, BASE, no_fetch, now)
        self.authenticator = BearerAuthenticator(
            self.embedded.read, self.registrations, Revisions(self.store), now
        )

    async def authenticate(self, token):
        headers = [(b"authorization", f"Bearer {token}".encode())]
        return await self.authenticator.authenticate({"headers": headers}, {})


@pytest.fixture
def processes(store_kind, new_url, tmp_path):
    url = f"sqlite:///{tmp_path}/fhir.db" if store_kind == "sqlite" else new_url("mongo")
    opened = [Process(url) for _ in range(3)]
    yield opened
    for each in opened:
        each.store.close()


@pytest.fixture
def key():
    return ECKey.generate_key("P-384", {"kid": "k"})


@pytest.fixture
def client(processes, key):
    client = Client(
        client_id="c", scopes="system/*.rs", jwks={"keys": [key.as_dict(private=False)]}
    )
    processes[0].registrations.add(client)
    return client


def grown_old(process):
    """Long enough that the last look at a store on another machine is no more good."""
    if not process.store.is_near:
        time.sleep(FAR_SECONDS + 0.01)


async def refuses(process, token):
    with pytest.raises(Unauthenticated):
        await process.authenticate(token)


def test_one_process_reads_what_another_gave_out(processes, client, runner):
    token = processes[0].embedded.tokens.issue(
        Grant(client, ("system/*.rs",)), timedelta(minutes=5)
    )

    async def everywhere():
        return [await process.authenticate(token) for process in processes]

    found = runner.run(everywhere())
    assert len(set(found)) == 1
    assert found[0].client_id == "c"


def test_what_one_process_takes_back_no_other_lets_in(processes, client, runner):
    tokens = processes[0].embedded.tokens
    processes[0].registrations.add(Gateway(name="hub"))
    key = processes[0].registrations.renew_gateway_key("hub")
    given = [tokens.issue(Grant(client, ("system/*.rs",)), timedelta(minutes=5)) for _ in range(2)]

    async def let_in(*shown):
        for process in processes:
            grown_old(process)
            for each in shown:
                await process.authenticate(each)

    async def kept_out(*shown):
        for process in processes:
            grown_old(process)
            for each in shown:
                await refuses(process, each)

    runner.run(let_in(*given, key))
    processes[1].embedded.tokens.revoke(given[0], "c")
    runner.run(kept_out(given[0]))
    runner.run(let_in(given[1], key))
    processes[2].registrations.revoke(Client, "c")
    runner.run(kept_out(*given))
    runner.run(let_in(key))
    processes[1].registrations.revoke(Gateway, "hub")
    runner.run(kept_out(key))


def test_keys_that_are_turned_are_found_by_the_others(processes, client, runner):
    old = processes[0].embedded.tokens.issue(Grant(client, ("system/*.rs",)), timedelta(minutes=5))

    async def let_in(token):
        for process in processes:
            await process.authenticate(token)

    runner.run(let_in(old))
    processes[1].embedded.keys.rotate()
    new = processes[1].embedded.tokens.issue(Grant(client, ("system/*.rs",)), timedelta(minutes=5))
    runner.run(let_in(new))
    runner.run(let_in(old))


def test_an_assertion_is_used_once_over_all_processes(processes, client, key, runner):
    claims = {
        "iss": "c",
        "sub": "c",
        "aud": TOKEN_URL,
        "exp": int(time.time()) + 200,
        "jti": secrets.token_urlsafe(8),
    }
    header = {"alg": "ES384", "kid": "k", "typ": "JWT"}
    assertion = jws.serialize_compact(header, json.dumps(claims), key, algorithms=["ES384"])
    form = {"client_assertion_type": ASSERTION, "client_assertion": assertion}

    async def prove(process):
        try:
            return (await process.embedded.proof.client(form, "", TOKEN_URL)).client_id
        except OAuthError as error:
            return error.code

    async def at_once():
        return await asyncio.gather(*(prove(process) for process in processes for _ in range(3)))

    found = runner.run(at_once())
    assert sorted(found) == ["c"] + ["invalid_client"] * 8


def test_a_token_is_over_when_it_is_over(processes, client, runner):
    token = processes[0].embedded.tokens.issue(
        Grant(client, ("system/*.rs",)), timedelta(seconds=2)
    )

    async def both():
        await processes[0].authenticate(token)
        await asyncio.sleep(2.1)
        # It is known here, and is over all the same.
        await refuses(processes[0], token)
        await refuses(processes[1], token)

    runner.run(both())


def test_nobody_is_let_in_while_the_store_is_away(processes, client, runner):
    token = processes[0].embedded.tokens.issue(
        Grant(client, ("system/*.rs",)), timedelta(minutes=5)
    )

    class Away:
        is_near = processes[0].store.is_near

        def revision(self):
            raise StoreUnavailable("away")

    authenticator = BearerAuthenticator(
        processes[0].embedded.read, processes[0].registrations, Revisions(Away()), now
    )

    async def ask():
        headers = [(b"authorization", f"Bearer {token}".encode())]
        with pytest.raises(StoreUnavailable):
            await authenticator.authenticate({"headers": headers}, {})

    runner.run(ask())
