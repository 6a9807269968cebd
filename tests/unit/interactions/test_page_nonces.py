"""A nonce of a page token is given once, whoever asks, and however long."""

import os
from concurrent.futures import ThreadPoolExecutor

from fhir_server.core.search.cursor import NONCE_BYTES
from fhir_server.interactions import page_nonces
from fhir_server.interactions.page_nonces import PageNonces


def test_none_is_given_twice_to_threads_while_keys_are_renewed(monkeypatch):
    monkeypatch.setattr(page_nonces, "_MOST_OF_A_KEY", 7)
    nonces = PageNonces()
    with ThreadPoolExecutor(8) as pool:
        parts = pool.map(lambda _: [nonces.next() for _ in range(2_000)], range(8))
        given = [nonce for part in parts for nonce in part]
    assert len(set(given)) == len(given) == 16_000
    assert {len(nonce) for nonce in given} == {NONCE_BYTES}


def test_a_process_that_was_forked_has_a_key_of_its_own():
    nonces = PageNonces()
    mine = nonces.next()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, nonces.next())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, NONCE_BYTES)
    assert theirs[:16] != mine[:16]
    assert nonces.next()[:16] == mine[:16]
