"""The workload of the freshness test: writers, readers and evictions at once, and a count of what must never happen."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

from app.invalidations import user_key
from app.redis import Redis
from app.states import RedisStates
from tests.integration.examples import example_state

#: Every event happens at once: ties are the rule.
AT = datetime(2026, 1, 1, tzinfo=UTC)


class CountedHistory(Protocol):
    """What the workload needs of a history: to store an event, and to say how many are stored."""

    async def store(self, user_id: str) -> None:
        """Store one event."""
        ...

    async def count(self, user_id: str) -> int:
        """Events stored for the user."""
        ...


class MemoryHistory:
    """A history that is as slow, and as badly timed, as the dice say."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._stored: Counter[str] = Counter()

    async def store(self, user_id: str) -> None:
        """One event more, at some moment during the call."""
        await pause(self._rng)
        self._stored[user_id] += 1
        await pause(self._rng)

    async def count(self, user_id: str) -> int:
        """The number at some moment during the call."""
        await pause(self._rng)
        count = self._stored[user_id]
        await pause(self._rng)
        return count


async def pause(rng: random.Random) -> None:
    """Let others run: mostly not at all, now and then for long."""
    for _ in range(rng.choice((0, 0, 0, 1, 3, 40))):
        await asyncio.sleep(0)


class Workload:
    """Many tasks on few users, so that every order of steps comes up.

    Attributes:
        stale: reads that were older than an event acknowledged before the read began; the bar is 0.
        operations: calls of the cache (get, put, invalidate) and evictions.
        outcomes: how often a read was a hit, a miss, stale.
    """

    def __init__(
        self, states: RedisStates, history: CountedHistory, redis: Redis, users: int, rng: random.Random
    ) -> None:
        self._states = states
        self._history = history
        self._redis = redis
        self._users = [f"user-{n}" for n in range(users)]
        self._rng = rng
        self._acknowledged: Counter[str] = Counter()
        self._limit = 0
        self._stop_at_stale = False
        self.acknowledge_first = False
        self.stale = 0
        self.operations = 0
        self.refused_puts = 0
        self.outcomes: Counter[str] = Counter()

    async def run(self, operations: int, tasks: int = 64, *, stop_at_stale: bool = False) -> None:
        """About so many operations, by so many tasks at once."""
        self._limit, self._stop_at_stale = operations, stop_at_stale
        async with asyncio.TaskGroup() as group:
            for _ in range(tasks):
                group.create_task(self._work())

    async def _work(self) -> None:
        steps: list[Callable[[str], Awaitable[None]]] = [self._read, self._write, self._evict, self._expire]
        while self.operations < self._limit and not (self._stop_at_stale and self.stale):
            (step,) = self._rng.choices(steps, (70, 22, 4, 4))
            await step(self._rng.choice(self._users))

    async def _read(self, user: str) -> None:
        """As the predictor does it: look up, else read the history, compute and put."""
        at_least = self._acknowledged[user]
        lookup = await self._states.get(user)
        self.operations += 1
        self.outcomes[lookup.outcome] += 1
        if lookup.state is not None:
            total = lookup.state.total
        else:
            await pause(self._rng)
            computed_at = time.time()
            total = await self._history.count(user)
            await pause(self._rng)
            put = await self._states.put(user, lookup.generation, example_state(total, computed_at=computed_at))
            self.operations += 1
            self.refused_puts += not put
        self.stale += total < at_least

    async def _write(self, user: str) -> None:
        """As the ingest does it: store, invalidate, acknowledge."""
        await self._history.store(user)
        stored = await self._history.count(user)  # our event, and maybe those of other writers that came before
        if self.acknowledge_first:
            self._acknowledge(user, stored)
            await pause(self._rng)
        await self._states.invalidate([user])
        self.operations += 1
        self._acknowledge(user, stored)

    def _acknowledge(self, user: str, count: int) -> None:
        self._acknowledged[user] = max(self._acknowledged[user], count)

    async def _evict(self, user: str) -> None:
        await self._redis.delete(user_key(user))
        self.operations += 1

    async def _expire(self, user: str) -> None:
        await self._redis.pexpire(user_key(user), 1)
        self.operations += 1
