"""Reads of one turn in one round trip, on a real Valkey: everybody their own reply, and their own failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pytest

from app.coalescing import Coalescer
from app.errors import CacheUnavailable
from app.redis import Cache, Redis, ResponseError

NAMES = ("a", "b")


async def fill(redis: Redis, users: int) -> None:
    for user in range(users):
        await redis.hset(f"k{user}", mapping={"a": f"a{user}"})


async def test_reads_of_one_turn_are_one_round_trip_and_everybody_gets_their_own(
    cache: Cache, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(redis, 50)
    rounds = 0
    ask = cache.ask

    async def counted(command: Callable[[Redis], Awaitable[Any]]) -> Any:
        nonlocal rounds
        rounds += 1
        return await ask(command)

    monkeypatch.setattr(cache, "ask", counted)
    reads = Coalescer(cache)
    found = await asyncio.gather(*(reads.fields(f"k{user}", NAMES) for user in range(60)))
    assert found == [[f"a{user}".encode(), None] if user < 50 else [None, None] for user in range(60)]
    assert rounds == 1
    assert await reads.fields("k7", NAMES) == [b"a7", None]
    assert rounds == 2


async def test_a_key_of_another_kind_fails_alone(cache: Cache, redis: Redis) -> None:
    await fill(redis, 3)
    await redis.set("k1", "no hash", ex=60)
    reads = Coalescer(cache)
    found = await asyncio.gather(*(reads.fields(f"k{user}", NAMES) for user in range(3)), return_exceptions=True)
    assert (found[0], found[2]) == ([b"a0", None], [b"a2", None])
    assert isinstance(found[1], CacheUnavailable)
    assert isinstance(found[1].__cause__, ResponseError)


async def test_who_leaves_takes_nobody_along(cache: Cache, redis: Redis) -> None:
    await fill(redis, 3)
    reads = Coalescer(cache)
    tasks = [asyncio.create_task(reads.fields(f"k{user}", NAMES)) for user in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (found[0], found[2]) == ([b"a0", None], [b"a2", None])
    assert isinstance(found[1], asyncio.CancelledError)


async def test_where_nobody_answers_everybody_is_told_by_an_error_of_their_own(unused_tcp_port: int) -> None:
    away = Cache(Redis(port=unused_tcp_port), 0.5)
    reads = Coalescer(away)
    found = await asyncio.gather(*(reads.fields("k", NAMES) for _ in range(4)), return_exceptions=True)
    assert all(isinstance(error, CacheUnavailable) for error in found)
    assert len({id(error) for error in found}) == 4
    await away.close()


async def test_a_bug_lets_nobody_wait_for_ever() -> None:
    class Buggy(Cache):
        """Raises what nobody expects."""

        async def ask(self, command: object) -> NoReturn:
            """See :class:`app.redis.Cache`."""
            raise RuntimeError("a bug")

    reads = Coalescer(Buggy(Redis(), 1.0))
    found = await asyncio.gather(*(reads.fields("k", NAMES) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["a bug"] * 3
