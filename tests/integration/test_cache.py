"""Redis as something one can do without: what waiting for it costs at most, and who asks again after it was away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from app import redis as redis_module
from app.breakers import FAILURES
from app.errors import CacheUnavailable
from app.redis import Cache, Redis
from foretell.embedded import EmbeddedStores
from tests.integration.proxy import Proxy


@pytest.fixture
async def proxy(stores: EmbeddedStores) -> AsyncIterator[Proxy]:
    """In front of the session's Valkey."""
    async with Proxy(urlsplit(stores.redis_url).port or 0) as opened:
        yield opened


@pytest.mark.parametrize("fails", ["reading", "connecting"])
async def test_a_server_that_hangs_costs_the_timeout_once(proxy: Proxy, fails: str) -> None:
    """Not once for each try, and not once more for a new connection."""
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 2000)
    if fails == "connecting":
        await cache.client.connection_pool.disconnect()
    proxy.hold()
    start = time.perf_counter()
    with pytest.raises(CacheUnavailable):
        await cache.ask(lambda redis: redis.get("k"))
    assert 1.9 <= time.perf_counter() - start < 3.8
    proxy.mend()
    await cache.close()


async def test_a_reply_that_came_too_late_is_not_read_as_the_next_one(proxy: Proxy, redis: Redis) -> None:
    await redis.mset({"slow": "slow", "next": "next"})
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 20_000)
    cache._seconds = 0.05  # the caller leaves; the command itself goes on
    proxy.hold()
    with pytest.raises(CacheUnavailable):
        await cache.ask(lambda redis: redis.get("slow"))
    proxy.mend()
    await cache._unbroken.drain()
    cache._seconds = 20.0
    assert await cache.ask(lambda redis: redis.get("next")) == b"next"
    await cache.close()


async def test_a_command_that_nobody_waits_for_is_given_up(proxy: Proxy) -> None:
    """For ever, it would keep its connection from the others."""
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 200)
    proxy.hold()
    with pytest.raises(CacheUnavailable):
        await cache.ask(lambda redis: redis.get("k"))
    await asyncio.wait_for(cache._unbroken.drain(), 30)
    assert not cache.client.connection_pool._in_use_connections
    proxy.mend()
    await cache.close()


async def test_while_redis_is_away_nobody_asks_until_it_is_back(proxy: Proxy) -> None:
    turned: asyncio.Queue[bool] = asyncio.Queue()
    url = f"redis://127.0.0.1:{proxy.port}/0"
    cache = await redis_module.connect(url, 20_000, lambda part, opened: turned.put_nowait(opened))
    proxy.cut()
    for _ in range(FAILURES):
        with pytest.raises(CacheUnavailable, match="did not answer; "):
            await cache.ask(lambda redis: redis.get("k"))
    assert await turned.get() is True
    with pytest.raises(CacheUnavailable, match="a moment ago"):
        await cache.ask(_must_not_be_asked)
    proxy.mend()
    assert await turned.get() is False
    assert await cache.ask(lambda redis: redis.get("k")) is None
    await cache.close()


async def _must_not_be_asked(redis: Redis) -> None:
    pytest.fail("it was asked although its breaker is open")


async def test_a_refusal_is_an_answer_too(cache: Cache) -> None:
    """One wrong key must not keep everybody from the cache."""
    await cache.client.set("text", "no hash")
    for _ in range(2 * FAILURES):
        with pytest.raises(CacheUnavailable, match="refused"):
            await cache.ask(lambda redis: redis.hget("text", "g"))
    assert await cache.ask(lambda redis: redis.get("text")) == b"no hash"


async def test_an_idle_connection_that_broke_is_no_outage(proxy: Proxy) -> None:
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 20_000)
    proxy.cut()
    proxy.mend()
    await cache.ping()
    await cache.close()


@pytest.mark.parametrize("times", [1, 2])
async def test_a_connection_reset_under_a_write_is_tried_again_once_and_is_no_bug(cache: Cache, times: int) -> None:
    """uvloop reports it with an exception that redis-py does not expect (found by trials.chaos)."""
    failures = ["unable to perform operation on <TCPTransport closed=True>; the handler is closed"] * times

    async def command(redis: Redis) -> object:
        if failures:
            raise RuntimeError(failures.pop())
        return await redis.get("k")

    if times == 1:
        assert await cache.ask(command) is None
    else:
        with pytest.raises(CacheUnavailable):
            await cache.ask(command)


async def test_a_bug_stays_a_bug(cache: Cache) -> None:
    async def command(redis: Redis) -> None:
        raise RuntimeError("no such luck")

    with pytest.raises(RuntimeError, match="no such luck"):
        await cache.ask(command)
