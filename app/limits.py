"""Rate limits: counted in Redis by the library ``limits``, a handful of requests at a time.

A process leases a fiftieth of a limit in one command and spends it without asking: at 6,000 a minute one request in
120 waits for Redis, not each. What it costs is precision: a process may hold one lease that it does not spend, or spend
one late, so that within a minute the limit is met to a fiftieth for each process. A refusal is remembered until it may
end: floods cost Redis nothing.

Without Redis the same limits are counted in this process alone; each answer is then ``degraded`` by ``limits``.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from app.errors import CacheUnavailable, RateLimited
from app.redis import Cache

#: A lease is this part of a limit, at least one request.
SHARE = 50
#: Names that are remembered; the oldest are forgotten first, which costs them nothing but their lease.
NAMES = 10_000
#: Longest time for which a refusal counted in this process alone is remembered; Redis may be back.
LOCAL_SECONDS = 1.0


@dataclass(slots=True)
class _Account:
    """What this process knows of one name: requests in hand, until when they count, and until when it is refused."""

    left: int = 0
    until: float = 0.0
    refused_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Limiter:
    """Counts requests by name. ``clock`` is the time, in seconds since 1970 UTC."""

    def __init__(self, cache: Cache, clock: Callable[[], float] = time.time) -> None:
        pool = cache.client.connection_pool
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="foretell:limit",
            connection_pool=pool,  # type: ignore[arg-type]  # as the library documents it
        )
        self._cache = cache
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._local = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def take(self, name: str, rate: RateLimitItem) -> bool:
        """Count one request; True where it was counted by Redis, False where by this process alone.

        Raises:
            RateLimited: it is one too many; ``Retry-After`` says when the next is welcome.
        """
        account = self._account(name)
        if self._spends(account):
            return True
        async with account.lock:  # one asks for many
            if self._spends(account):
                return True
            try:
                await self._lease(account, name, rate)
            except CacheUnavailable:
                await self._count_here(account, name, rate)
                return False
        return True

    def _spends(self, account: _Account) -> bool:
        """Spend one of the lease, if there is one. Raises RateLimited while a refusal lasts."""
        now = self._clock()
        if now < account.refused_until:
            raise RateLimited(
                "Too many requests; send the next one when Retry-After says.",
                retry_after=math.ceil(account.refused_until - now),
            )
        if account.left and now < account.until:
            account.left -= 1
            return True
        return False

    async def _lease(self, account: _Account, name: str, rate: RateLimitItem) -> None:
        """Get a lease, or a single request where no whole one is left, and spend one of it."""
        for cost in sorted({max(1, rate.amount // SHARE), 1}, reverse=True):
            if await self._hit(name, rate, cost):
                account.left, account.until = cost - 1, self._clock() + rate.get_expiry()
                return
        window = await self._cache.ask(lambda _: self._shared.get_window_stats(rate, name))
        self._refuse(account, min(window.reset_time, self._clock() + rate.get_expiry()))

    async def _hit(self, name: str, rate: RateLimitItem, cost: int) -> bool:
        return await self._cache.ask(lambda _: self._shared.hit(rate, name, cost=cost))

    async def _count_here(self, account: _Account, name: str, rate: RateLimitItem) -> None:
        if not await self._local.hit(rate, name):
            window = await self._local.get_window_stats(rate, name)
            self._refuse(account, min(window.reset_time, self._clock() + LOCAL_SECONDS))

    def _refuse(self, account: _Account, until: float) -> None:
        account.refused_until = max(until, self._clock() + 1)
        self._spends(account)

    def _account(self, name: str) -> _Account:
        account = self._accounts.get(name)
        if account is None:
            while len(self._accounts) >= NAMES:
                del self._accounts[next(iter(self._accounts))]
            account = self._accounts[name] = _Account()
        return account
