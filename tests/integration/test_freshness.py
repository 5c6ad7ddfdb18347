"""The bar: once an event is acknowledged, no later read sees a state without it. And proof that the test can fail."""

from __future__ import annotations

import random
from collections.abc import Iterable
from types import SimpleNamespace

import pytest

from app import states as states_module
from app.event_store import EventStore, StoredEvent
from app.history import MongoHistory
from app.invalidations import user_key
from app.mongo import Mongo
from app.redis import Cache
from app.states import CachedState, Lookup, RedisStates
from tests.integration.examples import CONTRACT, example_state
from tests.integration.freshness import AT, MemoryHistory, Workload

SEED = 20_260_101


def workload(states: RedisStates, users: int = 40) -> Workload:
    rng = random.Random(SEED)
    return Workload(states, MemoryHistory(rng), states._cache.client, users, rng)


@pytest.mark.timeout(300)
async def test_no_state_is_older_than_an_acknowledged_event_in_100_000_operations(cache: Cache) -> None:
    load = workload(RedisStates(cache, "m/1", CONTRACT, 60))
    await load.run(100_000)
    assert load.stale == 0
    assert load.operations >= 100_000
    # It means something only if everything came up, and often.
    assert min(load.outcomes[outcome] for outcome in ("hit", "miss", "stale")) > 5_000
    assert load.refused_puts > 1_000


async def test_no_state_is_older_than_an_acknowledged_event_in_mongodb(cache: Cache, mongo: Mongo) -> None:
    rng = random.Random(SEED)
    history = StoredHistory(mongo)
    load = Workload(RedisStates(cache, "m/1", CONTRACT, 60), history, cache.client, 10, rng)
    await load.run(2_000, tasks=16)
    assert load.stale == 0
    assert min(load.outcomes[outcome] for outcome in ("hit", "miss", "stale")) > 50


class StoredHistory:
    """The service's own event store and history, on the real store."""

    def __init__(self, mongo: Mongo) -> None:
        self._store = EventStore(mongo.database)
        self._history = MongoHistory(mongo.database)
        self._made = 0

    async def store(self, user_id: str) -> None:
        """Insert one event."""
        self._made += 1
        event = StoredEvent(f"e{self._made:06d}", user_id, "i1", "click", AT)
        assert (await self._store.insert([event])).accepted == [0]

    async def count(self, user_id: str) -> int:
        """The length of the history as the predictor reads it."""
        return len((await self._history.recent(user_id, 1000)).events)


class LateGeneration(RedisStates):
    """Broken: puts under the generation of the end, not of the beginning."""

    async def put(self, user_id: str, generation: bytes, cached: CachedState) -> bool:
        """See the class."""
        return await super().put(user_id, (await self.get(user_id)).generation, cached)


class Unchecked(RedisStates):
    """Broken: believes a state whose generation has been replaced."""

    async def get(self, user_id: str) -> Lookup:
        """See the class."""
        lookup = await super().get(user_id)
        blob = await self._cache.client.hget(user_key(user_id), "s:m/1")
        if lookup.outcome != "stale" or not isinstance(blob, bytes):
            return lookup
        return Lookup(self._codec.unpack(user_id, blob)[1], lookup.generation, "hit")


class Forgetful(RedisStates):
    """Broken: does not invalidate every tenth time."""

    async def invalidate(self, user_ids: Iterable[str]) -> None:
        """See the class."""
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls % 10:
            await super().invalidate(user_ids)


@pytest.mark.parametrize("broken", [LateGeneration, Unchecked, Forgetful])
async def test_the_workload_catches_a_cache_that_breaks_a_rule(cache: Cache, broken: type[RedisStates]) -> None:
    load = workload(broken(cache, "m/1", CONTRACT, 60))
    await load.run(50_000, stop_at_stale=True)
    assert load.stale > 0


async def test_the_workload_catches_an_acknowledgement_before_the_invalidation(cache: Cache) -> None:
    load = workload(RedisStates(cache, "m/1", CONTRACT, 60))
    load.acknowledge_first = True
    await load.run(50_000, stop_at_stale=True)
    assert load.stale > 0


async def test_the_workload_catches_generations_that_come_again(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter would start over after an eviction, and a slow reader's old state would fit the new generation."""
    monkeypatch.setattr(states_module, "os", SimpleNamespace(urandom=lambda size: b"1" * size))
    load = workload(RedisStates(cache, "m/1", CONTRACT, 60), users=10)
    await load.run(50_000, stop_at_stale=True)
    assert load.stale > 0


async def test_a_put_without_compare_and_set_is_caught_by_the_generation_in_the_value(cache: Cache) -> None:
    """Compare-and-set saves the write; the value's own generation alone keeps a late write from being believed."""
    states = RedisStates(cache, "m/1", CONTRACT, 60)
    early = await states.get("u1")
    await states.invalidate(["u1"])
    late = states._codec.pack("u1", early.generation, example_state())
    await cache.client.hset(user_key("u1"), "s:m/1", late)
    assert (await states.get("u1")).outcome == "stale"
