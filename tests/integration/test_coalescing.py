"""Questions of one turn in one round: everybody their own answer, and their own failure; on a real Valkey where it says
so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.coalescing import Coalescer
from app.errors import CacheRefused, CacheUnavailable
from app.redis import Cache, Command, Redis, ResponseError


def read(key: str) -> Command:
    """What a key has in two fields."""
    return lambda redis: redis.hmget(key, ["a", "b"])


async def fill(redis: Redis, users: int) -> None:
    for user in range(users):
        await redis.hset(f"k{user}", mapping={"a": f"a{user}"})


async def test_commands_of_one_turn_are_one_round_trip_and_everybody_gets_their_own(
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
    together = Coalescer[Command, Any](cache.together)
    found = await asyncio.gather(*(together(read(f"k{user}")) for user in range(60)))
    assert found == [[f"a{user}".encode(), None] if user < 50 else [None, None] for user in range(60)]
    assert rounds == 1
    assert await together(read("k7")) == [b"a7", None]
    assert rounds == 2


async def test_a_key_of_another_kind_fails_alone(cache: Cache, redis: Redis) -> None:
    await fill(redis, 3)
    await redis.set("k1", "no hash", ex=60)
    together = Coalescer[Command, Any](cache.together)
    found = await asyncio.gather(*(together(read(f"k{user}")) for user in range(3)), return_exceptions=True)
    assert (found[0], found[2]) == ([b"a0", None], [b"a2", None])
    assert isinstance(found[1], CacheRefused)
    assert isinstance(found[1].__cause__, ResponseError)


async def test_who_leaves_takes_nobody_along(cache: Cache, redis: Redis) -> None:
    await fill(redis, 3)
    together = Coalescer[Command, Any](cache.together)
    tasks = [asyncio.create_task(together(read(f"k{user}"))) for user in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (found[0], found[2]) == ([b"a0", None], [b"a2", None])
    assert isinstance(found[1], asyncio.CancelledError)


async def test_where_nobody_answers_everybody_is_told_by_an_error_of_their_own(unused_tcp_port: int) -> None:
    away = Cache(Redis(port=unused_tcp_port), 0.5)
    together = Coalescer[Command, Any](away.together)
    found = await asyncio.gather(*(together(read("k")) for _ in range(4)), return_exceptions=True)
    assert all(isinstance(error, CacheUnavailable) for error in found)
    assert len({id(error) for error in found}) == 4
    assert len({str(error) for error in found}) == 1
    await away.close()


async def test_a_bug_lets_nobody_wait_for_ever() -> None:
    async def buggy(questions: Sequence[int]) -> list[int]:
        raise RuntimeError("a bug")

    together = Coalescer[int, int](buggy)
    found = await asyncio.gather(*(together(n) for n in range(3)), return_exceptions=True)
    assert [str(error) for error in found] == ["a bug"] * 3


class Slow:
    """Answers a question with its double when told to, and knows which rounds it was asked."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self._ends: list[asyncio.Event] = []

    async def __call__(self, questions: Sequence[int]) -> list[int]:
        """A round."""
        self.rounds.append(list(questions))
        self._ends.append(end := asyncio.Event())
        await end.wait()
        return [2 * question for question in questions]

    def end(self, place: int) -> None:
        """Let a round end."""
        self._ends[place].set()


async def turns() -> None:
    """Let everything happen that waits for nobody."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_comes_in_the_turn_after_a_crowd_goes_along_and_who_is_alone_waits_for_nobody() -> None:
    slow = Slow()
    together = Coalescer[int, int](slow, most=4)
    tasks = [asyncio.create_task(together(n)) for n in (0, 1)]
    await asyncio.sleep(0)  # both have asked
    tasks.append(asyncio.create_task(together(2)))
    await turns()
    assert slow.rounds == [[0, 1, 2]]
    tasks.append(asyncio.create_task(together(3)))
    for _ in range(3):  # one turn to ask, one that brings nobody, one to begin
        await asyncio.sleep(0)
    assert slow.rounds[1:] == [[3]]
    tasks += [asyncio.create_task(together(n)) for n in range(4, 9)]
    await turns()
    assert slow.rounds[2:] == [[4, 5, 6, 7], [8]]
    for place in range(4):
        slow.end(place)
    assert await asyncio.gather(*tasks) == [2 * n for n in range(9)]


async def test_while_a_round_runs_others_gather_until_it_ends_or_a_round_is_full() -> None:
    slow = Slow()
    together = Coalescer[int, int](slow, most=3, partial=1, rounds=2)
    tasks = [asyncio.create_task(together(0))]
    await turns()
    tasks += [asyncio.create_task(together(n)) for n in (1, 2)]
    await turns()
    assert slow.rounds == [[0]]  # two are no full round
    tasks += [asyncio.create_task(together(n)) for n in (3, 4)]
    await turns()
    assert slow.rounds == [[0], [1, 2, 3]]
    tasks += [asyncio.create_task(together(n)) for n in (5, 6, 7)]
    await turns()
    assert slow.rounds == [[0], [1, 2, 3]]  # two rounds run, and no third may
    tasks[4].cancel()  # who has gone is not asked for
    slow.end(1)
    await turns()
    assert slow.rounds == [[0], [1, 2, 3], [5, 6, 7]]
    slow.end(0)
    slow.end(2)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found.pop(4), asyncio.CancelledError)
    assert found == [0, 2, 4, 6, 10, 12, 14]


async def test_a_round_that_is_stuck_holds_nobody_up_for_longer_than_patience() -> None:
    stuck = asyncio.Event()

    async def ask(questions: Sequence[int]) -> list[int]:
        if 0 in questions:
            await stuck.wait()
        return [2 * question for question in questions]

    together = Coalescer[int, int](ask, most=3, partial=1, patience=0.001)
    first = asyncio.create_task(together(0))
    await turns()
    assert await asyncio.gather(*(together(n) for n in (1, 2))) == [2, 4]
    assert not first.done()
    stuck.set()
    assert await first == 0


async def test_patience_lets_no_more_rounds_begin_than_may_and_does_not_look_in_vain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slow, loop, looks = Slow(), asyncio.get_running_loop(), 0
    call_at = loop.call_at

    def counted(*arguments: Any, **options: Any) -> asyncio.TimerHandle:
        nonlocal looks
        looks += 1
        return call_at(*arguments, **options)

    monkeypatch.setattr(loop, "call_at", counted)
    together = Coalescer[int, int](slow, partial=1, patience=0.0, rounds=1)
    tasks = [asyncio.create_task(together(0))]
    await turns()
    tasks.append(asyncio.create_task(together(1)))
    await turns()
    assert (slow.rounds, looks) == ([[0]], 0)
    slow.end(0)
    await turns()
    assert slow.rounds == [[0], [1]]
    slow.end(1)
    assert await asyncio.gather(*tasks) == [0, 2]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=40), st.integers(1, 4), st.integers(1, 3))
def test_everybody_is_answered_once_and_in_order_of_coming(
    waves: list[tuple[int, int]], most: int, rounds: int
) -> None:
    """Waves of so many questions, each followed by so many turns of the loop."""

    async def play() -> None:
        asked: list[int] = []
        most_at_once = at_once = 0

        async def ask(questions: Sequence[int]) -> list[int]:
            nonlocal at_once, most_at_once
            assert 0 < len(questions) <= most
            asked.extend(questions)
            at_once += 1
            most_at_once = max(most_at_once, at_once)
            await asyncio.sleep(0)
            at_once -= 1
            return [2 * question for question in questions]

        together = Coalescer[int, int](ask, most=most, partial=1, rounds=rounds)
        tasks: list[asyncio.Task[int]] = []
        for count, pause in waves:
            first = len(tasks)
            tasks += [asyncio.create_task(together(first + n)) for n in range(count)]
            for _ in range(pause):
                await asyncio.sleep(0)
        assert await asyncio.gather(*tasks) == [2 * n for n in range(len(tasks))]
        assert asked == list(range(len(tasks)))
        assert most_at_once <= rounds

    asyncio.run(play())
