"""Generations: replacing a user's generation in Redis makes every state computed before then worthless.

Where Redis does not answer, the users are kept and tried again in the background; as long as one waits here, this
process does not use the cache for them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import islice
from types import TracebackType
from typing import Any, Self

import structlog

from app.errors import CacheUnavailable
from app.redis import Cache, Redis, Unbroken
from app.state_codec import GENERATION_BYTES

log = structlog.get_logger(__name__)

#: Users in one round trip.
BATCH = 500
#: Seconds between two tries in the background: from, to.
RETRY_SECONDS = (0.05, 1.0)

# A user without a hash has no generation and no state, so there is nothing to replace; creating one would only spend
# memory on users nobody asks for. A full server (maxmemory, noeviction) refuses HSET but not DEL, which does as well.
_REPLACE = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
local reply = redis.pcall('HSET', KEYS[1], 'g', ARGV[1])
if type(reply) == 'table' and reply.err then redis.call('DEL', KEYS[1]) end
return 1
"""


def user_key(user_id: str) -> str:
    """The hash of a user. Its name is a digest, so that no request, however late, writes a user's id into Redis; the
    braces keep it on one node of a cluster."""
    return f"foretell:{{{blake2b(user_id.encode(), digest_size=16, person=b'foretell-key').hexdigest()}}}"


class Invalidations:
    """Replaces generations, and does not forget those it could not replace.

    Use it as an async context: leaving it ends the work in the background.

    Args:
        cache: an open Redis.
        ttl: seconds a state lives in the cache.
        limit: most users that may wait. Past it the newcomers are not kept; instead the whole cache is bypassed until
            everything that was in it then has expired.
        on_waiting: called with the number of waiting users whenever it changes.
    """

    def __init__(
        self,
        cache: Cache,
        ttl: float,
        *,
        limit: int = 100_000,
        on_waiting: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._cache = cache
        self._ttl = ttl
        self._limit = limit
        self._on_waiting = on_waiting
        self._unbroken = Unbroken()
        self._waiting: dict[str, object] = {}  # user id -> a mark of the newest failure
        self._closed_until = 0.0
        self._some = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._retry())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._unbroken.drain()
        if self._waiting:
            log.warning("invalidations_lost", users=len(self._waiting), visible_within_seconds=self._ttl)

    @property
    def waiting(self) -> int:
        """Users whose generation could not be replaced yet."""
        return len(self._waiting)

    def bypasses(self, user_id: str) -> bool:
        """Whether the cache may hold a state of this user that is older than an acknowledged event."""
        return user_id in self._waiting or time.monotonic() < self._closed_until

    async def invalidate(self, user_ids: Iterable[str]) -> None:
        """Replace the generation of each user. Call it after the events are stored and before they are acknowledged.

        Raises CacheUnavailable where some could not be replaced; those are bypassed from now on, and tried again.
        Runs to its end even when the caller is cancelled.
        """
        await self._unbroken(self._replace_all(list(dict.fromkeys(user_ids))))

    async def _replace_all(self, user_ids: Sequence[str]) -> None:
        for start in range(0, len(user_ids), BATCH):
            try:
                await self._replace(user_ids[start : start + BATCH])
            except CacheUnavailable:
                self._keep(user_ids[start:])
                raise

    async def _replace(self, user_ids: Sequence[str]) -> None:
        """One round trip. A user stops waiting only where nothing failed for them since it began: a failure after
        that belongs to an event that the new generation may not cover."""
        marks = {user_id: self._waiting.get(user_id) for user_id in user_ids}
        replies = await self._cache.ask(lambda redis: _replacing(redis, user_ids))
        failures = [reply for reply in replies if isinstance(reply, Exception)]
        if failures:
            raise CacheUnavailable("Redis refused a command; predictions go on without it.") from failures[0]
        for user_id, mark in marks.items():
            if mark is not None and self._waiting.get(user_id) is mark:
                del self._waiting[user_id]
        self._on_waiting(len(self._waiting))

    def _keep(self, user_ids: Sequence[str]) -> None:
        for user_id in user_ids:
            if user_id in self._waiting or len(self._waiting) < self._limit:
                self._waiting[user_id] = object()
            else:
                self._closed_until = time.monotonic() + self._ttl
        log.warning("invalidation_failed", users=len(user_ids), waiting=len(self._waiting))
        self._on_waiting(len(self._waiting))
        self._some.set()

    async def _retry(self) -> None:
        """Until cancelled: try the waiting users again, each time it fails after a longer pause. No error ends it: that
        nobody tries any more would go unnoticed."""
        pause, longest = RETRY_SECONDS
        while True:
            if not self._waiting:
                self._some.clear()
                await self._some.wait()
            try:
                await self._replace(list(islice(self._waiting, BATCH)))
                pause = RETRY_SECONDS[0]
                continue
            except CacheUnavailable:
                pass
            except Exception:
                log.exception("invalidation_retry_failed", waiting=len(self._waiting))
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)


def _replacing(redis: Redis, user_ids: Sequence[str]) -> Awaitable[list[Any]]:
    """A new random generation for each user; gives a reply or an error for each."""
    pipeline = redis.pipeline(transaction=False)
    for user_id in user_ids:
        pipeline.eval(_REPLACE, 1, user_key(user_id), os.urandom(GENERATION_BYTES))
    return pipeline.execute(raise_on_error=False)
