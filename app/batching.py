"""The micro-batcher: requests that arrive while the model is busy are computed together, next.

An idle model starts at once, so a lone request never waits for company; a busy one finds a batch waiting when it is
done, so throughput rises with load by itself. Only where requests that are expected, for they are being prepared or
those before them have just been answered, would fill a larger batch, it waits for them a moment. How long a batch
takes is learned while it runs (:class:`BatchTime`), and who cannot be answered in time by that is refused at the door,
before anything is spent.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import DeadlineExceeded, Overloaded
from app.metrics import Metrics

Job = TypeVar("Job")
Result = TypeVar("Result")

#: Batches before which nobody is waited for, at most, after that was in vain.
LONGEST_REST = 31

#: A batch counts half as much for the fitted time as the one this many batches later: under load about a second.
HALF_LIFE = 30


def everyone(waiting: int) -> int:
    """All who wait are computed together, as far as they fit into a batch."""
    return waiting


class BatchTime:
    """How long a batch takes by its rows, a * rows + b, fitted to the batches that ran; older ones fade.

    Weighted least squares over running sums. Neither rows nor batches are ever free: a and b are not negative. It knows
    nothing at first, and then expects no time at all, so that nobody is refused for want of experience.
    """

    def __init__(self) -> None:
        self._keep = 0.5 ** (1 / HALF_LIFE)
        self._weight = self._n = self._t = self._nn = self._nt = 0.0
        self.a = self.b = 0.0

    def observe(self, rows: int, seconds: float) -> None:
        """Learn from one batch."""
        keep = self._keep
        self._weight = keep * self._weight + 1
        self._n, self._nn = keep * self._n + rows, keep * self._nn + rows * rows
        self._t, self._nt = keep * self._t + seconds, keep * self._nt + rows * seconds
        spread = self._weight * self._nn - self._n**2
        if spread > 1e-9 * self._weight * self._nn:
            self.a = max((self._weight * self._nt - self._n * self._t) / spread, 0.0)
        self.a = min(self.a, self._t / self._n)
        self.b = (self._t - self.a * self._n) / self._weight

    def __call__(self, rows: float, batches: float = 1.0) -> float:
        """Seconds that so many rows take in so many batches."""
        return self.a * rows + self.b * batches


@dataclass(slots=True)
class _Waiting(Generic[Job, Result]):
    job: Job
    width: int
    deadline: float
    since: float
    future: asyncio.Future[Result]


class Batcher(Generic[Job, Result]):
    """Collects jobs and runs them in batches, first come first served, one batch at a time.

    Args:
        op: the name in metrics.
        run: computes a batch, in order; it is called on ``executor``, never on the event loop.
        max_batch: most jobs in one batch.
        fill: of so many that wait, how many (at least one) to compute together.
        queue_limit: most jobs waiting.
        width: rows of a job. Those of a batch are padded to its widest, so that n jobs are n times as many rows.
        max_rows: most rows in one batch, padding included; a job that is wider than that runs alone.
        patience: seconds that a batch waits at most for jobs that are expected (:meth:`_gather`) and would fill a
            larger one.
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
        max_rows: float = math.inf,
        fill: Callable[[int], int] = everyone,
        patience: float = 0.0,
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._width = width
        self._max_rows = max_rows
        self._fill = fill
        self._patience = patience
        self.resting = self._rest = 0  # batches before which nobody is waited for: those left, and how many they were
        self._queue: deque[_Waiting[Job, Result]] = deque()
        self._queued_rows = 0
        self._inside = 0
        self._crowd, self._crowd_at = 0, -math.inf  # who was inside when the last batch was done, and when that was
        self._company: asyncio.Future[None] | None = None  # what a batch waits for until there are so many
        self._wanted = 0
        self._busy: asyncio.Task[None] | None = None
        self._free_at = 0.0
        self._sizes = metrics.batch_size.labels(op)
        self._waits = metrics.queue_wait.labels(op)
        self.time = BatchTime()

    @property
    def waits(self) -> bool:
        """Whether a batch waits for company."""
        return self._company is not None

    async def submit(self, job: Job, *, deadline: float) -> Result:
        """The result of one job.

        Args:
            deadline: in the event loop's time; work on the job begins before it or not at all.

        Raises:
            Overloaded: the queue is full, or too long for the deadline; nothing was computed.
            DeadlineExceeded: the deadline passed while the job waited.
        """
        loop = asyncio.get_running_loop()
        now, width = loop.time(), max(self._width(job), 1)
        jobs, rows = len(self._queue) + 1, self._queued_rows + width
        self._let_in(jobs, max(self._free_at - now, 0.0) + self._takes(jobs, rows), deadline - now)
        waiting: _Waiting[Job, Result] = _Waiting(job, width, deadline, now, loop.create_future())
        self._queue.append(waiting)
        self._queued_rows += width
        if self._busy is None:
            self._busy = loop.create_task(self._drain())
        elif self._company is not None and self._fill(len(self._queue)) >= self._wanted:
            _wake(self._company)
        return await waiting.future

    def admit(self, deadline: float) -> None:
        """Raises Overloaded where a job of one row that came now would be done, after all that are inside, too late."""
        jobs = self._inside + 1
        self._let_in(jobs, self._takes(jobs, jobs), deadline - asyncio.get_running_loop().time())

    @contextmanager
    def admitted(self, deadline: float) -> Iterator[None]:
        """While a job is prepared and done: who comes meanwhile counts it, though it does not wait in the queue yet.

        Under overload hundreds arrive in one turn of the loop; none of them would see the others. Raises Overloaded
        like :meth:`admit`.
        """
        self.admit(deadline)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def _let_in(self, jobs: int, wait: float, left: float) -> None:
        """Raise Overloaded where the last of so many jobs, done in ``wait`` seconds, is one too many or too late."""
        if jobs > self._queue_limit:
            raise Overloaded("The model has more requests than it can answer in time; try again in a second.")
        # Somebody is always let in, so that a fit that one slow batch has spoilt meets quick ones again.
        if jobs > 1 and wait > left:
            raise Overloaded(
                "The requests that wait for the model already take longer than this one may.",
                retry_after=max(1, math.ceil(wait)),
            )

    def _takes(self, jobs: int, rows: int) -> float:
        """Seconds for so many jobs, one batch after the other."""
        return self.time(rows, math.ceil(max(jobs / self._max_batch, rows / self._max_rows)))

    async def _drain(self) -> None:
        """Run batches until nobody waits.

        For those who wait, a batch takes from the end of the one before to its own: under load the event loop may be
        what they wait for, and a fit of the model's time alone would let in too many.
        """
        loop, since = asyncio.get_running_loop(), None
        try:
            while self._queue:
                await self._gather()
                if batch := self._next():
                    await self._compute(batch, since)
                since = loop.time()
                self._crowd, self._crowd_at = self._inside, since
        finally:
            self._busy = None

    async def _gather(self) -> None:
        """Wait for those who are expected, as long as they would fill a larger batch and patience lasts.

        Expected are as many as are inside, or were when the batch before was done: clients whose answers were computed
        together ask again together. Without this those who come first are computed while the others are prepared, and
        two groups take turns, each in batches half as large as they could be. But who is inside may be waiting for a
        slow store, and who was answered may not come back: each time not all have come, the batches that wait for
        nobody before it is tried again become twice as many and one.
        """
        loop, fill, least = asyncio.get_running_loop(), self._fill, self._fill(len(self._queue))
        now = loop.time()
        expected = max(self._inside, self._crowd if now < self._crowd_at + self._patience else 0)
        most = fill(min(expected, self._max_batch))
        if most <= least:
            return
        if self.resting:
            self.resting -= 1
            return
        self._company, self._wanted = loop.create_future(), most
        clock = loop.call_at(now + self._patience, _wake, self._company)
        try:
            await self._company
        finally:
            clock.cancel()
            self._company = None
        rewarded = fill(len(self._queue)) >= most
        self.resting = self._rest = 0 if rewarded else min(2 * self._rest + 1, LONGEST_REST)

    def _next(self) -> list[_Waiting[Job, Result]]:
        """The next batch: from the head of the queue as many as fit, in their order."""
        now = asyncio.get_running_loop().time()
        batch: list[_Waiting[Job, Result]] = []
        widest = 0
        most = min(self._fill(len(self._queue)), self._max_batch) if self._queue else 0
        while len(batch) < most and (waiting := self._head(now)):
            widest = max(widest, waiting.width)
            if batch and (len(batch) + 1) * widest > self._max_rows:
                break
            self._waits.observe(now - waiting.since)
            batch.append(self._take())
        return batch

    def _head(self, now: float) -> _Waiting[Job, Result] | None:
        """Who has waited longest; those who gave up are skipped, those too late are told so."""
        while self._queue:
            waiting = self._queue[0]
            if not waiting.future.done():
                if waiting.deadline > now:
                    return waiting
                waiting.future.set_exception(DeadlineExceeded("The deadline passed before the model was free."))
            self._take()
        return None

    def _take(self) -> _Waiting[Job, Result]:
        waiting = self._queue.popleft()
        self._queued_rows -= waiting.width
        return waiting

    async def _compute(self, batch: list[_Waiting[Job, Result]], since: float | None = None) -> None:
        """Run one batch, whose time counts from ``since`` (now, if None); where it fails as a whole, each job is run
        alone, so that only the bad one fails."""
        loop = asyncio.get_running_loop()
        rows = len(batch) * max(waiting.width for waiting in batch)
        started = loop.time() if since is None else since
        self._sizes.observe(len(batch))
        self._free_at = started + self.time(rows)
        try:
            results = await loop.run_in_executor(self._executor, self._run, [waiting.job for waiting in batch])
        except Exception as error:  # noqa: BLE001 - whatever the model raises belongs to whoever asked
            if len(batch) > 1:
                for waiting in batch:
                    await self._compute([waiting])
            elif not batch[0].future.done():
                batch[0].future.set_exception(error)
            return
        self.time.observe(rows, loop.time() - started)
        for waiting, result in zip(batch, results, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(result)


def _wake(waits: asyncio.Future[None]) -> None:
    if not waits.done():
        waits.set_result(None)
