"""Texts that page links name: every process has them, until their time is over."""

import asyncio
from datetime import timedelta


def test_what_is_kept_is_found_by_any_process(driver):
    assert driver.run(driver.store.kept("a")) is None
    driver.run(driver.store.keep("a", "sealed"))
    driver.run(driver.store.keep("b", "x" * 700_000))
    other = driver.open_another()
    assert driver.run(other.kept("a")) == "sealed"
    assert driver.run(other.kept("b")) == "x" * 700_000


def test_many_may_keep_the_same_at_once(driver):
    async def many():
        await asyncio.gather(*(driver.store.keep("a", "sealed") for _ in range(20)))

    driver.run(many())
    assert driver.run(driver.store.kept("a")) == "sealed"


def test_it_is_kept_from_when_it_was_asked_for_last(driver):
    began = driver.clock()
    driver.run(driver.store.keep("a", "sealed"))
    driver.run(driver.store.keep("b", "sealed"))
    driver.clock.advance(3_000)
    driver.run(driver.store.keep("a", "sealed"))
    driver.run(driver.store.purge(began + timedelta(seconds=1)))
    assert driver.run(driver.store.kept("a")) == "sealed"
    assert driver.run(driver.store.kept("b")) is None
