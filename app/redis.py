"""Redis: the only file that imports redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from app.errors import CacheUnavailable, StartupError, Unreachable

__all__ = ["Redis", "ResponseError", "Unbroken", "connect", "ping"]

T = TypeVar("T")

#: Most connections; a command that finds none free waits for one, at most the timeout.
POOL_SIZE = 64


async def connect(url: str, timeout_ms: int) -> Redis:
    """Open a client and see that the server answers. Connecting, writing, reading and waiting for a connection take at
    most ``timeout_ms`` each; a command that failed for the connection's sake is tried once more.

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
            socket_timeout=seconds,
            socket_connect_timeout=seconds,
            retry=Retry(NoBackoff(), 1),
            client_name="foretell",
            # Under RESP3 redis-py turns on maintenance notifications, and then no longer checks that a connection it
            # takes from the pool has no reply left over.
            protocol=2,
        )
    except ValueError as error:
        raise StartupError("FORETELL_REDIS_URL is not a URL of Redis; see the configuration table.") from error
    client = Redis.from_pool(pool)
    try:
        await ping(client)
    except CacheUnavailable as error:
        await client.aclose()
        if isinstance(error.__cause__, AuthenticationError | ResponseError):
            raise StartupError(
                f"Redis at {_address(url)} refuses us ({error.__cause__}); check FORETELL_REDIS_URL."
            ) from error
        raise Unreachable(
            f"Redis does not answer at {_address(url)} within {timeout_ms} ms; start it, or set FORETELL_REDIS_URL."
        ) from error
    return client


async def ping(client: Redis) -> None:
    """Raises CacheUnavailable where the server does not answer in time."""
    await Unbroken()(client.ping())


class Unbroken:
    """Awaits Redis commands, each of which runs to its end even when the caller is cancelled.

    redis-py closes the connection of a cancelled command, lest its reply be read as another's. So a wave of cancelled
    requests would cost a wave of new connections, and a cancelled invalidation might never reach the server.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, command: Awaitable[T]) -> T:
        """The command's result. Raises CacheUnavailable for every error of the client or the server."""
        task = asyncio.ensure_future(_whole(command))
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for the commands that are still running; their errors are nobody's any more."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that asyncio does not report it when the caller has gone


async def _whole(command: Awaitable[T]) -> T:
    try:
        return await command
    except RedisError as error:
        raise CacheUnavailable("Redis did not answer; predictions go on without it.") from error


def _address(url: str) -> str:
    """Where a URL points, without user and password."""
    parts = urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"
