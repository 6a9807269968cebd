"""What is asked at once is answered together, and never by what was asked before."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.store.mongo.together import Together


class Commands:
    """Answers a number with its double and the moment; a command takes some turns of the loop."""

    def __init__(self, turns=1):
        self.turns = turns
        self.asked = []
        self.began = asyncio.Event()
        self.under_way = 0
        self.most_under_way = 0

    async def __call__(self, numbers):
        self.asked.append(numbers)
        self.began.set()
        moment = len(self.asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(self.turns):
            await asyncio.sleep(0)
        self.under_way -= 1
        if 13 in numbers:
            raise ValueError("13")
        return [(2 * number, moment) for number in numbers]


def gathered(numbers, **limits):
    commands = Commands()

    async def ask():
        together = Together(commands, **{"most": 100, "at_once": 2, **limits})
        return await asyncio.gather(*map(together.ask, numbers), return_exceptions=True)

    return asyncio.run(ask()), commands


def test_questions_of_one_turn_are_one_command():
    answers, commands = gathered(range(5))
    assert answers == [(2 * n, 1) for n in range(5)]
    assert commands.asked == [(0, 1, 2, 3, 4)]


def test_the_same_question_is_asked_once():
    answers, commands = gathered([1, 2, 1, 1])
    assert answers == [(2, 1), (4, 1), (2, 1), (2, 1)]
    assert commands.asked == [(1, 2)]


def test_more_than_one_command_takes_are_several():
    answers, commands = gathered(range(7), most=3, at_once=1)
    assert [double for double, _ in answers] == [0, 2, 4, 6, 8, 10, 12]
    assert commands.asked == [(0, 1, 2), (3, 4, 5), (6,)]
    assert commands.most_under_way == 1


def test_what_is_raised_is_raised_to_those_of_that_command_alone():
    answers, _ = gathered([1, 13, 2], most=2, at_once=1)
    assert [type(answer) for answer in answers] == [ValueError, ValueError, tuple]


def test_a_question_never_joins_a_command_that_was_sent_before_it():
    commands = Commands(turns=10)

    async def ask():
        together = Together(commands, most=100, at_once=1)
        first = asyncio.create_task(together.ask(1))
        await commands.began.wait()
        again = asyncio.create_task(together.ask(1))
        return await first, await again

    assert asyncio.run(ask()) == ((2, 1), (2, 2))


def test_one_who_goes_away_takes_nothing_from_the_others():
    commands = Commands(turns=5)

    async def ask():
        together = Together(commands, most=100, at_once=1)
        going, staying, other = (asyncio.create_task(together.ask(n)) for n in (1, 1, 2))
        await commands.began.wait()
        going.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going
        return await staying, await other

    assert asyncio.run(ask()) == ((2, 1), (4, 1))


def test_finishing_waits_for_what_is_under_way():
    commands = Commands(turns=5)

    async def ask():
        together = Together(commands, most=100, at_once=1)
        asking = asyncio.create_task(together.ask(1))
        await commands.began.wait()
        await together.finish()
        assert not commands.under_way
        return await asking

    assert asyncio.run(ask()) == (2, 1)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12)), max_size=40),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 4),
)
def test_each_gets_its_own_answer_of_a_later_command(asked, most, at_once, turns):
    """Whoever asks when `n` commands were sent is answered by one after them."""
    commands = Commands(turns)

    async def ask_all():
        together = Together(commands, most=most, at_once=at_once)

        async def ask(wait, number):
            for _ in range(wait):
                await asyncio.sleep(0)
            sent = len(commands.asked)
            double, moment = await together.ask(number)
            assert double == 2 * number
            assert moment > sent

        await asyncio.gather(*(ask(wait, number) for wait, number in asked))

    asyncio.run(ask_all())
    assert commands.most_under_way <= at_once
    assert all(len(numbers) <= most for numbers in commands.asked)
