"""The state cache on a real Valkey: hit, miss, stale, expiry, foreign values, outage."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from app import redis as redis_module
from app.errors import CacheUnavailable
from app.invalidations import Invalidations, user_key
from app.redis import Cache, Redis
from app.states import RedisStates
from foretell.embedded import EmbeddedStores
from tests.integration.examples import CONTRACT, example_state
from tests.integration.proxy import Proxy

KEY = user_key("u1")


@pytest.fixture
async def states(cache: Cache) -> AsyncIterator[RedisStates]:
    async with RedisStates(cache, "m/1", CONTRACT, 60) as opened:
        yield opened


@pytest.fixture
async def proxy(stores: EmbeddedStores, redis: Redis) -> AsyncIterator[Proxy]:
    """In front of the session's (emptied) Valkey."""
    async with Proxy(urlsplit(stores.redis_url).port or 0) as opened:
        yield opened


async def fill(states: RedisStates, user: str = "u1", total: int = 3) -> bytes:
    generation = (await states.get(user)).generation
    assert await states.put(user, generation, example_state(total))
    return generation


async def test_the_first_lookup_misses_and_gives_a_generation_that_stays(states: RedisStates, redis: Redis) -> None:
    first, second = await states.get("u1"), await states.get("u1")
    assert (first.outcome, first.state) == ("miss", None)
    assert len(first.generation) == 16
    assert second.generation == first.generation
    assert 0 < await redis.pttl(KEY) <= 60_000


async def test_a_state_put_under_the_current_generation_is_a_hit(states: RedisStates) -> None:
    generation = await fill(states, total=9)
    lookup = await states.get("u1")
    assert lookup.outcome == "hit"
    assert lookup.generation == generation
    assert lookup.state is not None
    assert (lookup.state.total, lookup.state.state.shape) == (9, (3, 4))


async def test_a_hit_costs_one_command(states: RedisStates, redis: Redis) -> None:
    await fill(states)
    before = (await redis.info("stats"))["total_commands_processed"]
    await states.get("u1")
    assert (await redis.info("stats"))["total_commands_processed"] - before == 2  # HMGET, and the INFO before it


async def test_after_an_invalidation_the_state_is_stale_under_a_new_generation(states: RedisStates) -> None:
    old = await fill(states)
    await states.invalidate(["u1"])
    lookup = await states.get("u1")
    assert (lookup.outcome, lookup.state) == ("stale", None)
    assert lookup.generation != old
    assert await states.put("u1", lookup.generation, example_state(4))
    assert (await states.get("u1")).outcome == "hit"


async def test_put_refuses_a_generation_that_was_replaced_meanwhile(states: RedisStates) -> None:
    generation = (await states.get("u1")).generation
    await states.invalidate(["u1"])
    assert not await states.put("u1", generation, example_state())
    assert (await states.get("u1")).outcome == "miss"


async def test_put_after_eviction_neither_succeeds_nor_creates_the_key(states: RedisStates, redis: Redis) -> None:
    generation = (await states.get("u1")).generation
    await redis.delete(KEY)
    assert not await states.put("u1", generation, example_state())
    assert not await redis.exists(KEY)


async def test_eviction_does_not_bring_an_old_generation_back(states: RedisStates, redis: Redis) -> None:
    old = await fill(states)
    await redis.delete(KEY)
    assert (await states.get("u1")).generation != old


async def test_invalidating_a_user_without_a_key_creates_none(states: RedisStates, redis: Redis) -> None:
    await states.invalidate(["nobody", "u1"])
    assert await redis.dbsize() == 0


async def test_many_users_are_invalidated_across_batches(states: RedisStates) -> None:
    users = [f"u{n}" for n in range(1201)]  # two batches of 500 and one of 201
    await fill(states, users[0])
    await fill(states, users[-1])
    await states.invalidate(users)
    assert [(await states.get(user)).outcome for user in (users[0], users[-1])] == ["stale", "stale"]


async def test_models_share_a_generation_but_not_a_state(cache: Cache) -> None:
    one, two = RedisStates(cache, "m/1", CONTRACT, 60), RedisStates(cache, "m/2", CONTRACT, 60)
    await fill(one)
    assert (await two.get("u1")).outcome == "miss"
    await two.put("u1", (await two.get("u1")).generation, example_state(4))
    await one.invalidate(["u1"])
    assert [(await s.get("u1")).outcome for s in (one, two)] == ["stale", "stale"]


async def test_a_state_expires_with_its_key(cache: Cache, redis: Redis) -> None:
    states = RedisStates(cache, "m/1", CONTRACT, 0.05)
    old = await fill(states)
    while await redis.exists(KEY):
        pass
    lookup = await states.get("u1")
    assert lookup.outcome == "miss"
    assert lookup.generation != old


async def test_a_state_older_than_the_ttl_misses_though_its_key_lives_on(states: RedisStates) -> None:
    """Another model's writes keep the hash alive; an invalidation lost for good must still cost one ttl at most."""
    generation = (await states.get("u1")).generation
    assert await states.put("u1", generation, example_state(computed_at=time.time() - 61))
    assert (await states.get("u1")).outcome == "miss"


async def test_each_put_renews_the_life_of_the_key(states: RedisStates, redis: Redis) -> None:
    generation = (await states.get("u1")).generation
    await redis.pexpire(KEY, 1000)
    await states.put("u1", generation, example_state())
    assert await redis.pttl(KEY) > 50_000


@pytest.mark.parametrize("garbage", [b"", b"hello", b"FTS1" + b"\0" * 100, b"\xff" * 4096])
async def test_a_garbage_state_is_a_counted_miss_and_can_be_replaced(
    states: RedisStates, redis: Redis, garbage: bytes
) -> None:
    await fill(states)
    await redis.hset(KEY, "s:m/1", garbage)
    lookup = await states.get("u1")
    assert (lookup.outcome, states.corrupt) == ("miss", 1)
    assert await states.put("u1", lookup.generation, example_state())
    assert (await states.get("u1")).outcome == "hit"


async def test_the_state_of_another_user_is_a_counted_miss(states: RedisStates, redis: Redis) -> None:
    """Were two users to get each other's value (a crossed reply, a copied key), neither would be answered with it."""
    await fill(states, "u2")
    await redis.copy(user_key("u2"), KEY)
    assert (await states.get("u1")).outcome == "miss"
    assert states.corrupt == 1


async def test_a_generation_of_the_wrong_length_is_replaced_together_with_the_states(
    states: RedisStates, redis: Redis
) -> None:
    await fill(states)
    await redis.hset(KEY, "g", b"short")
    lookup = await states.get("u1")
    assert lookup.outcome == "miss"
    assert len(lookup.generation) == 16
    assert await redis.hkeys(KEY) == [b"g"]


async def test_a_key_that_is_no_hash_is_a_counted_miss_and_replaced(states: RedisStates, redis: Redis) -> None:
    await redis.set(KEY, b"somebody else's")
    await states.invalidate(["u1"])
    assert not await states.put("u1", b"g" * 16, example_state())
    assert (await states.get("u1")).outcome == "miss"
    assert states.corrupt == 1
    await fill(states)


async def test_a_full_server_that_evicts_nothing_still_invalidates(states: RedisStates, redis: Redis) -> None:
    await fill(states)
    kept = {name: str(value) for name, value in (await redis.config_get("maxmemory*")).items()}
    await redis.config_set("maxmemory", 1, "maxmemory-policy", "noeviction")
    try:
        await states.invalidate(["u1"])
        assert not await redis.exists(KEY)
        assert states.invalidations.waiting == 0
        assert (await states.get("u1")).outcome == "miss"
    finally:
        await redis.config_set("maxmemory", kept["maxmemory"], "maxmemory-policy", kept["maxmemory-policy"])


async def test_an_outage_raises_and_the_cache_works_again_after_it(proxy: Proxy) -> None:
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 1000)
    async with RedisStates(cache, "m/1", CONTRACT, 60) as states:
        generation = await fill(states)
        proxy.cut()
        with pytest.raises(CacheUnavailable):
            await states.get("u1")
        with pytest.raises(CacheUnavailable):
            await states.put("u1", generation, example_state())
        proxy.mend()
        assert (await states.get("u1")).outcome == "hit"
    await cache.close()


async def test_a_failed_invalidation_bypasses_the_cache_until_it_has_been_made_up_for(proxy: Proxy) -> None:
    counts: list[int] = []
    all_done = asyncio.Event()

    def on_waiting(count: int) -> None:
        counts.append(count)
        if count == 0 and 1 in counts:
            all_done.set()

    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 1000)
    async with RedisStates(cache, "m/1", CONTRACT, 60, on_waiting=on_waiting) as states:
        old = await fill(states)
        proxy.cut()
        with pytest.raises(CacheUnavailable):
            await states.invalidate(["u1"])
        assert counts[-1] == 1
        lookup = await states.get("u1")
        assert (lookup.outcome, lookup.state, lookup.generation) == ("bypass", None, b"")
        assert not await states.put("u1", lookup.generation, example_state())
        assert not await states.put("u1", old, example_state())
        proxy.mend()
        await asyncio.wait_for(all_done.wait(), 30)
        lookup = await states.get("u1")
        assert lookup.outcome == "stale"
        assert lookup.generation != old
    await cache.close()


async def test_a_failure_during_a_retry_is_not_settled_by_that_retry(cache: Cache) -> None:
    """The retry may have reached the server before the newer event was stored."""
    invalidations = Invalidations(cache, 60)
    invalidations._keep(["u1", "u2"])
    retry = asyncio.create_task(invalidations._replace(["u1", "u2"]))
    await asyncio.sleep(0)  # it has begun, and waits for the server
    invalidations._keep(["u1"])
    await retry
    assert invalidations.bypasses("u1")
    assert not invalidations.bypasses("u2")


async def test_past_the_limit_the_whole_cache_is_bypassed(cache: Cache) -> None:
    invalidations = Invalidations(cache, 60, limit=2)
    invalidations._keep(["u1", "u2"])
    assert not invalidations.bypasses("u3")
    invalidations._keep(["u3"])
    assert invalidations.waiting == 2
    assert invalidations.bypasses("anybody")


async def test_a_cancelled_caller_neither_stops_the_command_nor_costs_a_connection(proxy: Proxy) -> None:
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 5000)
    async with RedisStates(cache, "m/1", CONTRACT, 60) as states:
        await fill(states)
        opened = proxy.connections
        proxy.hold()
        waiting = [asyncio.create_task(states.invalidate(["u1"])), asyncio.create_task(states.get("u1"))]
        await asyncio.sleep(0.01)  # let both be sent; when they are not, the test only proves less
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        proxy.mend()
        await states.invalidations._unbroken.drain()
        await cache._unbroken.drain()
        assert (await states.get("u1")).outcome == "stale"
        assert proxy.connections <= opened + 1  # the second of the two commands opened its own
    await cache.close()
