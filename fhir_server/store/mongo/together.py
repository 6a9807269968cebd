"""Together: what is asked at the same moment is answered by one command.

A command costs the driver and the database many times what one answer in it does. So
questions that arrive while the event loop goes round once, or while as many commands as may
be are under way, wait for each other. None of them joins a command that was sent before it
was asked: an answer is never older than its question.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import islice
from typing import Generic, TypeVar

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Questions of one kind on one event loop.

    `answer` is given up to `most` different ones and gives their answers in that order; it is
    under way up to `at_once` times. What it raises is raised to all who asked.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], *, most: int, at_once: int
    ) -> None:
        self._answer = answer
        self._most = most
        self._at_once = at_once
        self._waiting: dict[Q, list[asyncio.Future[A]]] = {}
        self._sent: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._loop = asyncio.get_running_loop()

    async def ask(self, question: Q) -> A:
        """The answer, which others may be given as well."""
        # One future for each who asks: a request that is cancelled takes nothing from others.
        future: asyncio.Future[A] = self._loop.create_future()
        asking = self._waiting.get(question)
        if asking is None:
            self._waiting[question] = [future]
            self._plan()
        else:
            asking.append(future)
        return await future

    async def finish(self) -> None:
        """Wait for what is under way, whatever comes of it."""
        if self._sent:
            await asyncio.wait(self._sent)

    def _plan(self) -> None:
        if not self._is_due and len(self._sent) < self._at_once:
            self._is_due = True
            # Behind whatever else arrived in this turn of the loop.
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._is_due = False
        asked = {q: self._waiting.pop(q) for q in tuple(islice(self._waiting, self._most))}
        if not asked:
            return
        task = self._loop.create_task(self._tell(asked))
        self._sent.add(task)
        task.add_done_callback(self._end)
        if self._waiting:
            self._plan()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._sent.discard(task)
        if self._waiting:
            self._plan()

    async def _tell(self, asked: dict[Q, list[asyncio.Future[A]]]) -> None:
        futures = list(asked.values())
        try:
            answers = await self._answer(tuple(asked))
        except Exception as error:  # each of those who asked raises it
            for future in _still_waiting(futures):
                future.set_exception(error)
        else:
            for answer, asking in zip(answers, futures, strict=True):
                for future in _still_waiting([asking]):
                    future.set_result(answer)
        finally:
            for future in _still_waiting(futures):
                future.cancel()


def _still_waiting(futures: Sequence[Sequence["asyncio.Future[A]"]]) -> list["asyncio.Future[A]"]:
    return [future for asking in futures for future in asking if not future.done()]
