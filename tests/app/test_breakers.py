"""Circuit breakers over a part that a test takes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from app import breakers
from app.breakers import FAILURES, Breaker, Part
from app.errors import HistoryUnavailable
from app.mongo import Refused


class Store:
    """A part with a breaker; ``turned`` gets what the breaker reports."""

    def __init__(self) -> None:
        self.lost = False
        self.asked = self.probed = 0
        self.turned: asyncio.Queue[tuple[Part, bool]] = asyncio.Queue()
        self.breaker = Breaker(
            "history", HistoryUnavailable, self.ping, seconds=20.0, on_turn=lambda *turn: self.turned.put_nowait(turn)
        )

    async def ping(self) -> None:
        """A sign of life."""
        self.probed += 1
        if self.lost:
            raise HistoryUnavailable("away")

    async def read(self) -> str:
        """Something to ask for."""
        self.asked += 1
        if self.lost:
            raise HistoryUnavailable("away")
        return "read"

    async def fail(self, times: int) -> None:
        """Ask so often, in vain."""
        for _ in range(times):
            with pytest.raises(HistoryUnavailable):
                await self.breaker(self.read)


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    monkeypatch.setattr(breakers, "PROBE_SECONDS", 0.001)
    store = Store()
    yield store
    await store.breaker.close()


async def test_three_failures_in_a_row_open_it_and_an_answered_probe_closes_it(store: Store) -> None:
    store.lost = True
    await store.fail(FAILURES)
    assert await store.turned.get() == ("history", True)
    await store.fail(5)
    assert store.asked == FAILURES
    store.lost = False
    assert await store.turned.get() == ("history", False)
    assert await store.breaker(store.read) == "read"


async def test_as_long_as_probes_fail_it_stays_open_and_no_request_is_the_one_that_tries(store: Store) -> None:
    store.lost = True
    await store.fail(FAILURES)
    while store.probed < 3:
        await asyncio.sleep(0)
        await store.fail(1)
    assert store.asked == FAILURES
    assert not store.breaker.closed


async def test_a_success_between_failures_starts_the_count_anew(store: Store) -> None:
    for _ in range(3):
        store.lost = True
        await store.fail(FAILURES - 1)
        store.lost = False
        assert await store.breaker(store.read) == "read"
    assert store.breaker.closed
    assert store.turned.empty()


async def test_a_refusal_is_an_answer(store: Store) -> None:
    async def refuse() -> None:
        raise Refused("not authorized")

    for _ in range(2 * FAILURES):
        with pytest.raises(Refused):
            await store.breaker(refuse)
    assert store.breaker.closed


async def test_a_probe_that_is_refused_closes_it_and_one_that_breaks_ends_nothing(store: Store) -> None:
    outcomes: list[Exception] = [RuntimeError("nobody expected this"), HistoryUnavailable("away"), Refused("no")]

    async def probe() -> None:
        raise outcomes.pop(0)

    breaker = Breaker("history", HistoryUnavailable, probe, on_turn=lambda *turn: store.turned.put_nowait(turn))
    store.lost = True
    for _ in range(FAILURES):
        with pytest.raises(HistoryUnavailable):
            await breaker(store.read)
    assert [await asyncio.wait_for(store.turned.get(), 30) for _ in range(2)] == [("history", True), ("history", False)]
    assert breaker.closed
    assert not outcomes


async def test_work_that_takes_too_long_is_a_failure() -> None:
    async def nothing() -> None:
        await asyncio.Event().wait()

    breaker = Breaker("history", HistoryUnavailable, nothing, seconds=0.001)
    for _ in range(FAILURES):
        with pytest.raises(HistoryUnavailable, match="in time"):
            await breaker(nothing)
    assert not breaker.closed
    await breaker.close()


async def test_a_client_that_leaves_says_nothing_about_the_part(store: Store) -> None:
    hang = asyncio.Event()
    tasks = [asyncio.create_task(store.breaker(hang.wait)) for _ in range(2 * FAILURES)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert store.breaker.closed


async def test_a_success_that_comes_late_does_not_close_it(store: Store) -> None:
    """It was asked before the part went away; only a probe knows how things are now."""
    answer = asyncio.Event()
    early = asyncio.create_task(store.breaker(answer.wait))
    await asyncio.sleep(0)
    store.lost = True
    await store.fail(FAILURES)
    answer.set()
    assert await early is True
    assert not store.breaker.closed
