"""Questions to a store that requests have at the same time, asked together.

A command costs the client more than the server: taking a connection, waiting for the reply, waking up. Under load many
requests want something in one turn of the event loop; one round trip carries it all. Who asks alone waits for the end
of the turn only.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Generic, NamedTuple, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class _Asked(NamedTuple, Generic[Question, Answer]):
    question: Question
    future: asyncio.Future[Answer]


class Coalescer(Generic[Question, Answer]):
    """Asks in rounds, each of which takes those who wait at the end of a turn that brings nobody else, the first ones
    first.

    Args:
        ask: the answers to the questions of a round, in their order; an exception among them is that question's alone.
        most: questions in a round.
        partial: rounds that may begin beside each other although they are not full; further ones wait until they are,
            or another has ended.
        patience: seconds after which a further one may begin all the same: a store that is stuck with one question
            may have an answer to the next.
        rounds: most that run at once.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[Question]], Awaitable[Sequence[Answer | Exception]]],
        *,
        most: float = inf,
        partial: float = inf,
        patience: float = inf,
        rounds: float = inf,
    ) -> None:
        self._ask = ask
        self._most = most
        self._partial = partial
        self._patience = patience
        self._rounds = rounds
        self._waiting: deque[_Asked[Question, Answer]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._planned = False
        self._begun_at = -inf
        self._look: asyncio.TimerHandle | None = None

    async def __call__(self, question: Question) -> Answer:
        """The answer to a question; raises what was its own failure, or that of its round."""
        asked = _Asked[Question, Answer](question, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._plan()
        return await asked.future

    def _plan(self) -> None:
        """A round soon, where one may begin; else another look when patience is over."""
        if not self._waiting or self._planned:
            return
        loop, due, running = asyncio.get_running_loop(), self._begun_at + self._patience, len(self._running)
        if running >= self._rounds:
            return  # until one has ended
        if running < self._partial or len(self._waiting) >= self._most or loop.time() >= due:
            self._planned = True
            loop.call_soon(self._begin, len(self._waiting))
        elif self._look is None and due < inf:
            self._look = loop.call_at(due, self._look_again)

    def _look_again(self) -> None:
        self._look = None
        self._plan()

    def _begin(self, seen: int) -> None:
        """The round of those who wait, but where more do than were ``seen`` a turn ago: then the next may bring others.
        Who has gone meanwhile is not asked for."""
        if seen < len(self._waiting) < self._most:
            asyncio.get_running_loop().call_soon(self._begin, len(self._waiting))
            return
        self._planned = False
        asked: list[_Asked[Question, Answer]] = []
        while self._waiting and len(asked) < self._most:
            one = self._waiting.popleft()
            if not one.future.done():
                asked.append(one)
        if asked:
            loop = asyncio.get_running_loop()
            self._begun_at = loop.time()
            task = loop.create_task(self._run(asked))
            self._running.add(task)
            task.add_done_callback(self._end)
        self._plan()

    def _end(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._plan()

    async def _run(self, asked: Sequence[_Asked[Question, Answer]]) -> None:
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._ask([one.question for one in asked])
        except Exception as error:  # noqa: BLE001 - a bug, too, is for those who asked; nobody may wait for ever
            answers = [error] * len(asked)
        for one, answer in zip(asked, answers, strict=True):
            if one.future.done():  # the request has gone
                continue
            if isinstance(answer, Exception):
                one.future.set_exception(_own(answer))
            else:
                one.future.set_result(answer)


def _own(error: Exception) -> Exception:
    """An exception for one request alone: those of a round must not share a traceback."""
    mine = type(error).__new__(type(error), *error.args)
    mine.__dict__.update(error.__dict__)
    mine.__cause__ = error.__cause__
    return mine
