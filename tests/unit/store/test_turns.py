"""Turns: nobody who asks seldom waits for the queue of one who asks all the time."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.errors import StoreUnavailable, Throttled
from fhir_server.store.turns import TurnLimits, Turns


def limits(**more):
    return TurnLimits(**{"places": 4, "per_client": 3, "seconds": 5.0, **more})


def test_one_client_never_has_all_places():
    turns = Turns(limits())
    assert [turns.take_at_once("heavy") for _ in range(4)] == [True, True, True, False]
    assert turns.take_at_once("light")
    assert not turns.take_at_once("other")


def test_who_asks_once_is_next_whatever_others_have_waiting():
    async def scene():
        turns = Turns(limits(places=1, per_client=1))
        done = []

        async def work(name):
            await turns.take(name)
            await asyncio.sleep(0)
            done.append(name)
            turns.give_back(name)

        heavy = [asyncio.create_task(work("heavy")) for _ in range(100)]
        await asyncio.sleep(0)
        light = asyncio.create_task(work("light"))
        await asyncio.gather(light, *heavy)
        return done

    assert "light" in asyncio.run(scene())[:4]


def test_too_many_of_one_client_are_told_to_wait_and_others_may_still_come():
    async def scene():
        turns = Turns(limits(places=1, per_client=1, waiting=4, waiting_per_client=2))
        assert turns.take_at_once("a")
        waiting = [asyncio.create_task(turns.take(name)) for name in ("a", "a", "b", "c")]
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable):
            await turns.take("d")
        waiting.pop().cancel()
        await asyncio.sleep(0)
        with pytest.raises(Throttled) as refused:
            await turns.take("a")
        assert refused.value.retry_after >= 1
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert turns.waiting == 0

    asyncio.run(scene())


def test_a_turn_that_does_not_come_is_a_refusal():
    async def scene():
        turns = Turns(limits(places=1, per_client=1, seconds=0.01))
        assert turns.take_at_once("a")
        with pytest.raises(StoreUnavailable):
            await turns.take("b")
        turns.give_back("a")
        assert turns.take_at_once("b")

    asyncio.run(scene())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=40),
    st.integers(1, 4),
    st.integers(1, 4),
)
def test_places_are_never_exceeded_and_none_is_lost(jobs, places, per_client):
    async def scene():
        turns = Turns(limits(places=places, per_client=per_client, waiting=100))
        running: Counter[str] = Counter()

        async def work(name, steps):
            await turns.take(name)
            running[name] += 1
            assert running.total() <= places
            assert running[name] <= per_client
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                running[name] -= 1
                turns.give_back(name)

        tasks = []
        for name, steps, is_cancelled in jobs:
            tasks.append(asyncio.create_task(work(name, steps)))
            if is_cancelled:
                await asyncio.sleep(0)
                tasks[-1].cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [e for e in ended if isinstance(e, Exception)]
        assert turns.waiting == 0
        # Whatever was cancelled when, each place can be had again.
        taken = [name for name in "wxyz" for _ in range(per_client) if turns.take_at_once(name)]
        assert len(taken) == min(places, per_client * 4)

    asyncio.run(scene())
