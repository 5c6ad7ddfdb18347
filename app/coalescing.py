"""Reads that requests want in the same turn of the event loop, in one round trip.

A command costs the client more than the server: taking a connection, waiting for the reply, waking up. Under load
many requests look up their state in one turn; one pipeline carries them all. A lone read waits for the turn's end only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, cast

from app.errors import CacheRefused, CacheUnavailable
from app.redis import Cache, Redis

Fields = list[bytes | None]


class _Read(NamedTuple):
    key: str
    names: Sequence[str]
    future: asyncio.Future[Fields]


class Coalescer:
    """Reads fields of hashes."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._waiting: list[_Read] = []
        self._running: set[asyncio.Task[None]] = set()

    async def fields(self, key: str, names: Sequence[str]) -> Fields:
        """The fields of one hash, None for those it has not.

        Raises CacheUnavailable; its cause is a ResponseError where the key is no hash.
        """
        loop = asyncio.get_running_loop()
        read = _Read(key, names, loop.create_future())
        self._waiting.append(read)
        if len(self._waiting) == 1:
            loop.call_soon(self._start)
        return await read.future

    def _start(self) -> None:
        """End of the turn: whoever asks from now on is in the next round."""
        reads, self._waiting = self._waiting, []
        task = asyncio.get_running_loop().create_task(self._run(reads))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, reads: list[_Read]) -> None:
        try:
            replies = await self._ask(reads)
        except CacheUnavailable as error:
            replies = [error] * len(reads)
        except Exception as error:  # noqa: BLE001 - a bug is for those who asked; nobody may wait for ever
            for read in reads:
                if not read.future.done():
                    read.future.set_exception(error)
            return
        for read, reply in zip(reads, replies, strict=True):
            if read.future.done():  # the request has gone
                continue
            if isinstance(reply, Exception):
                read.future.set_exception(_own(reply))
            else:
                read.future.set_result(reply)

    async def _ask(self, reads: list[_Read]) -> Sequence[Fields | Exception]:
        if len(reads) == 1:
            key, names, _ = reads[0]
            # Bytes, as the client decodes nothing.
            return [cast("Fields", await self._cache.ask(lambda redis: redis.hmget(key, list(names))))]

        async def together(redis: Redis) -> list[Fields | Exception]:
            async with redis.pipeline(transaction=False) as pipe:
                for read in reads:
                    pipe.hmget(read.key, list(read.names))
                return await pipe.execute(raise_on_error=False)

        return await self._cache.ask(together)


def _own(error: Exception) -> CacheUnavailable:
    """An exception for one request alone; those of a round must not share a traceback."""
    if isinstance(error, CacheUnavailable):
        mine, cause = type(error)(error.detail), error.__cause__
    else:
        mine, cause = CacheRefused("Redis refused a command; predictions go on without it."), error
    mine.__cause__ = cause
    return mine
