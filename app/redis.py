"""Redis: the only file that imports redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, RedisError, ResponseError

from app.breakers import Breaker, OnTurn, nobody_told
from app.errors import CacheRefused, CacheUnavailable, StartupError, Unreachable

__all__ = ["Cache", "Command", "Redis", "ResponseError", "Unbroken", "connect"]

T = TypeVar("T")
#: A command on whichever client, or pipeline, it is given.
Command = Callable[[Redis], Awaitable[Any]]

#: Part of what uvloop says, in a RuntimeError, of a write to a connection that the other side has reset.
CLOSED = "the handler is closed"
#: Most connections; a command that finds none free waits for one.
POOL_SIZE = 64
#: A command that nobody waits for any more is given up, and its connection closed, after this many times as long.
GIVEN_UP = 2.0


async def connect(url: str, timeout_ms: int, on_turn: OnTurn = nobody_told) -> Cache:
    """Open a client and see that the server answers. ``on_turn`` is told when its breaker opens and closes.

    Raises:
        StartupError: the URL is none, or the server wants (another) password.
        Unreachable: nobody answers there.
    """
    seconds = timeout_ms / 1000
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=POOL_SIZE,
            timeout=seconds,
            # A reply has no clock of its own: one for each costs more than to read it. Cache has one for a command.
            socket_timeout=None,
            socket_connect_timeout=seconds,
            # Once more where the connection broke, as idle ones do; not where the server was too slow already.
            retry=Retry(NoBackoff(), 1, (ConnectionError,)),
            client_name="foretell",
            # Under RESP3 redis-py turns on maintenance notifications, and then no longer checks that a connection it
            # takes from the pool has no reply left over.
            protocol=2,
        )
    except ValueError as error:
        raise StartupError("FORETELL_REDIS_URL is not a URL of Redis; see the configuration table.") from error
    cache = Cache(Redis.from_pool(pool), seconds, on_turn)
    try:
        await cache.ping()
    except CacheUnavailable as error:
        await cache.close()
        if isinstance(error.__cause__, AuthenticationError | ResponseError):
            raise StartupError(
                f"Redis at {_address(url)} refuses us ({error.__cause__}); check FORETELL_REDIS_URL."
            ) from error
        raise Unreachable(
            f"Redis does not answer at {_address(url)} within {timeout_ms} ms; start it, or set FORETELL_REDIS_URL."
        ) from error
    return cache


class Unbroken:
    """Awaits work that runs to its end even when the caller is cancelled, or waits no longer."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[Any]] = set()

    async def __call__(self, work: Awaitable[T], seconds: float | None = None) -> T:
        """The result. Raises TimeoutError where it is not there in time, and what the work raises."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise TimeoutError
        return task.result()

    async def drain(self) -> None:
        """Wait for the work that is still running; its errors are nobody's any more."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it when the caller has gone


class Cache:
    """Redis as something one can do without: each command gets ``seconds``, connecting and its one retry included.

    A command that takes longer goes on by itself and is told to nobody. redis-py would close the connection of a
    cancelled one, lest its reply be read as another's: a wave of cancelled requests would cost a wave of connections,
    and a cancelled invalidation might never reach the server. After GIVEN_UP times as long it is cancelled after all.

    Where the server does not answer, the breaker opens, and commands fail at once until it does.
    """

    def __init__(self, client: Redis, seconds: float, on_turn: OnTurn = nobody_told) -> None:
        self.client = client
        self._seconds = seconds
        self._given_up = GIVEN_UP * seconds
        self._unbroken = Unbroken()
        self.breaker = Breaker("cache", CacheUnavailable, self.ping, on_turn=on_turn)

    async def ask(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """What ``command`` gets of the server. Raises CacheUnavailable for every error of the client or the server."""
        return await self.breaker(lambda: self._ask(command))

    async def together(self, commands: Sequence[Command]) -> Sequence[Any]:
        """What each of the commands gets, in one round trip; where the server refuses one, CacheRefused in its place.

        Raises CacheUnavailable for what becomes of them all.
        """
        if len(commands) == 1:
            return [await self.ask(commands[0])]

        async def pipelined(redis: Redis) -> list[Any]:
            async with redis.pipeline(transaction=False) as pipe:
                for command in commands:
                    command(pipe)  # is kept, and sent with the others
                return await pipe.execute(raise_on_error=False)

        return [_refused(reply) if isinstance(reply, Exception) else reply for reply in await self.ask(pipelined)]

    async def _ask(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        try:
            return await self._unbroken(self._until_given_up(command), self._seconds)
        except ResponseError as error:
            raise _refused(error) from error
        except (RedisError, TimeoutError) as error:
            raise CacheUnavailable("Redis did not answer; predictions go on without it.") from error

    async def _until_given_up(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        async with asyncio.timeout(self._given_up):
            return await self._once_more(command)

    async def _once_more(self, command: Callable[[Redis], Awaitable[T]]) -> T:
        """The client's own retry does not know how uvloop calls a connection that was reset under a write."""
        try:
            return await command(self.client)
        except RuntimeError as error:
            if CLOSED not in str(error):
                raise
        try:
            return await command(self.client)
        except RuntimeError as error:
            if CLOSED not in str(error):
                raise
            raise ConnectionError("The connection was reset.") from error

    async def ping(self) -> None:
        """Ask even where the breaker is open. Raises CacheUnavailable where the server does not answer in time."""
        await self._ask(lambda redis: redis.ping())

    async def close(self) -> None:
        """Let running commands end, and close every connection."""
        await self.breaker.close()
        await self._unbroken.drain()
        await self.client.aclose()


def _refused(error: Exception) -> CacheRefused:
    """What callers are told of an error that the server answered with."""
    refused = CacheRefused("Redis refused a command; predictions go on without it.")
    refused.__cause__ = error
    return refused


def _address(url: str) -> str:
    """Where a URL points, without user and password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
