"""The door of an HTTP process: who could not be answered in time by the model process is refused here."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from app.apart.messages import Load
from app.errors import Overloaded

#: Seconds for which the model's word on the other processes counts: nobody says that they have gone quiet.
FRESH = 1.0


class Door:
    """Admits by the same rule as :meth:`app.batching.Batcher.admit`, with the requests inside all HTTP processes: the
    model tells with every frame how many the others have, and how long its batches take.

    Args:
        max_batch: most jobs in one batch.
        queue_limit: most jobs inside all processes.
    """

    def __init__(self, max_batch: int, queue_limit: int) -> None:
        self.inside = 0
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._load = Load(0.0, 0.0, 0)
        self._told_at = -math.inf

    def told(self, load: Load) -> None:
        """What the model says of itself."""
        self._load, self._told_at = load, asyncio.get_running_loop().time()

    def admit(self, deadline: float) -> None:
        """Raises Overloaded where a request that came now would be done, after all that are inside, too late."""
        now = asyncio.get_running_loop().time()
        jobs = self.inside + 1 + (self._load.others if now - self._told_at < FRESH else 0)
        if jobs > self._queue_limit:
            raise Overloaded("The model has more requests than it can answer in time; try again in a second.")
        wait = self._load.a * jobs + self._load.b * math.ceil(jobs / self._max_batch)
        # Each process lets somebody in, always: only those who ask hear that the model is quick again.
        if self.inside and wait > deadline - now:
            raise Overloaded(
                "The requests that wait for the model already take longer than this one may.",
                retry_after=max(1, math.ceil(wait)),
            )

    @contextmanager
    def admitted(self, deadline: float) -> Iterator[None]:
        """Around a request, which is inside meanwhile. Raises Overloaded like :meth:`admit`."""
        self.admit(deadline)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1
