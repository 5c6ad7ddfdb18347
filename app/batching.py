"""The micro-batcher: requests that arrive while the model is busy are computed together, next.

There is no timer. An idle model starts at once, so a lone request never waits for company; a busy one finds a batch
waiting when it is done, so throughput rises with load by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from math import inf
from typing import Generic, TypeVar

from app.errors import DeadlineExceeded, Overloaded
from app.metrics import Metrics

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Job, Result]):
    job: Job
    deadline: float
    since: float
    future: asyncio.Future[Result]


class Batcher(Generic[Job, Result]):
    """Collects jobs and runs them in batches, first come first served, one batch at a time.

    Args:
        op: the name in metrics.
        run: computes a batch, in order; it is called on ``executor``, never on the event loop.
        max_batch: most jobs in one batch.
        queue_limit: most jobs waiting.
        width: rows of a job. Those of a batch are padded to its widest, so that n jobs are n times as many rows.
        max_rows: most rows in one batch, padding included; a job that is wider than that runs alone.
    """

    def __init__(
        self,
        op: str,
        run: Callable[[Sequence[Job]], Sequence[Result]],
        executor: Executor,
        metrics: Metrics,
        *,
        max_batch: int,
        queue_limit: int,
        width: Callable[[Job], int] = lambda job: 1,
        max_rows: float = inf,
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._width = width
        self._max_rows = max_rows
        self._queue: deque[_Waiting[Job, Result]] = deque()
        self._busy: asyncio.Task[None] | None = None
        self._sizes = metrics.batch_size.labels(op)
        self._waits = metrics.queue_wait.labels(op)

    async def submit(self, job: Job, *, deadline: float) -> Result:
        """The result of one job.

        Args:
            deadline: in the event loop's time; work on the job begins before it or not at all.

        Raises:
            Overloaded: the queue is full; nothing was computed.
            DeadlineExceeded: the deadline passed while the job waited.
        """
        loop = asyncio.get_running_loop()
        if len(self._queue) >= self._queue_limit:
            raise Overloaded("The model has more requests than it can answer in time; try again in a second.")
        waiting = _Waiting[Job, Result](job, deadline, loop.time(), loop.create_future())
        self._queue.append(waiting)
        if self._busy is None:
            self._busy = loop.create_task(self._drain())
        return await waiting.future

    async def _drain(self) -> None:
        """Run batches until nobody waits."""
        try:
            while batch := self._next():
                await self._compute(batch)
        finally:
            self._busy = None

    def _next(self) -> list[_Waiting[Job, Result]]:
        """The next batch: from the head of the queue as many as fit, in their order."""
        now = asyncio.get_running_loop().time()
        batch: list[_Waiting[Job, Result]] = []
        widest = 0
        while len(batch) < self._max_batch and (waiting := self._head(now)):
            widest = max(widest, self._width(waiting.job))
            if batch and (len(batch) + 1) * widest > self._max_rows:
                break
            self._waits.observe(now - waiting.since)
            batch.append(self._queue.popleft())
        return batch

    def _head(self, now: float) -> _Waiting[Job, Result] | None:
        """Who has waited longest; those who gave up are skipped, those too late are told so."""
        while self._queue:
            waiting = self._queue[0]
            if not waiting.future.done():
                if waiting.deadline > now:
                    return waiting
                waiting.future.set_exception(DeadlineExceeded("The deadline passed before the model was free."))
            self._queue.popleft()
        return None

    async def _compute(self, batch: list[_Waiting[Job, Result]]) -> None:
        """Run one batch; where it fails as a whole, each job is run alone, so that only the bad one fails."""
        loop = asyncio.get_running_loop()
        self._sizes.observe(len(batch))
        try:
            results = await loop.run_in_executor(self._executor, self._run, [waiting.job for waiting in batch])
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to whoever asked
            if len(batch) > 1:
                for waiting in batch:
                    await self._compute([waiting])
            elif not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)
