"""The micro-batcher waits for those who are expected, where they would fill a larger batch, while it pays."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.batching import Batcher
from app.metrics import Metrics
from tests.app.doubling import FOREVER, Model, submit_all


async def prepared(doubler: Batcher[int, int], job: int, ready: asyncio.Event) -> int:
    """Submit a job that is inside before it is ready."""
    with doubler.admitted(FOREVER):
        await ready.wait()
        return await doubler.submit(job, deadline=FOREVER)


def patient(model: Model, executor: ThreadPoolExecutor, patience: float) -> Batcher[int, int]:
    """It fills batches of 4 or computes one job alone."""
    return Batcher(
        "double",
        model,
        executor,
        Metrics(),
        max_batch=4,
        queue_limit=100,
        fill=lambda waiting: 4 if waiting >= 4 else 1,
        patience=patience,
    )


async def test_one_who_comes_while_others_are_prepared_is_joined_by_them(executor: ThreadPoolExecutor) -> None:
    model = Model()
    doubler, ready = patient(model, executor, FOREVER), asyncio.Event()
    others = [asyncio.create_task(prepared(doubler, job, ready)) for job in (2, 3, 4)]
    await asyncio.sleep(0)

    async def first() -> int:
        with doubler.admitted(FOREVER):
            return await doubler.submit(1, deadline=FOREVER)

    asyncio.get_running_loop().call_later(0.02, ready.set)
    assert await asyncio.gather(first(), *others) == [2, 4, 6, 8]
    assert model.batches == [[1, 2, 3, 4]]


async def test_a_batch_does_not_wait_for_too_few_to_fill_it(executor: ThreadPoolExecutor) -> None:
    """Three inside would be computed one by one whenever they come; so would be one alone."""
    model = Model()
    doubler, ready = patient(model, executor, FOREVER), asyncio.Event()
    others = [asyncio.create_task(prepared(doubler, job, ready)) for job in (2, 3)]
    await asyncio.sleep(0)
    with doubler.admitted(FOREVER):
        assert await asyncio.wait_for(doubler.submit(1, deadline=FOREVER), 30) == 2
    assert model.batches == [[1]]
    ready.set()
    assert await asyncio.gather(*others) == [4, 6]


async def test_patience_ends(executor: ThreadPoolExecutor) -> None:
    """Whoever is inside may never come: their history is slow, or they ask for something else."""
    model = Model()
    doubler, ready = patient(model, executor, 0.01), asyncio.Event()
    others = [asyncio.create_task(prepared(doubler, job, ready)) for job in (2, 3, 4)]
    await asyncio.sleep(0)
    assert await asyncio.wait_for(doubler.submit(1, deadline=FOREVER), 30) == 2
    assert model.batches == [[1]]
    ready.set()
    assert await asyncio.gather(*others) == [4, 6, 8]


async def asks_twice(doubler: Batcher[int, int], job: int, again: asyncio.Event) -> int:
    """Submit a job, and another when it is time."""
    with doubler.admitted(FOREVER):
        await doubler.submit(job, deadline=FOREVER)
    await again.wait()
    with doubler.admitted(FOREVER):
        return await doubler.submit(10 * job, deadline=FOREVER)


async def test_those_who_were_answered_together_and_ask_again_are_computed_together(
    executor: ThreadPoolExecutor,
) -> None:
    """The first of them comes at once, the others when the batcher waits for them; till then nobody is inside."""
    model, at_once, later = Model(), asyncio.Event(), asyncio.Event()
    doubler = patient(model, executor, FOREVER)

    async def they_come() -> None:
        while not doubler.waits:  # noqa: ASYNC110 - who is waited for is not told so
            await asyncio.sleep(0)
        later.set()

    at_once.set()
    clients = [asks_twice(doubler, job, at_once if job == 1 else later) for job in (1, 2, 3, 4)]
    found = await asyncio.wait_for(asyncio.gather(*clients, they_come()), 30)
    assert found == [20, 40, 60, 80, None]
    assert [sorted(batch) for batch in model.batches] == [[1, 2, 3, 4], [10, 20, 30, 40]]


async def test_who_was_answered_and_does_not_come_back_is_not_waited_for_long(executor: ThreadPoolExecutor) -> None:
    model, at_once = Model(), asyncio.Event()
    doubler = patient(model, executor, 0.05)
    never = [asyncio.create_task(asks_twice(doubler, job, asyncio.Event())) for job in (2, 3, 4)]
    at_once.set()
    assert await asyncio.wait_for(asks_twice(doubler, 1, at_once), 30) == 20
    assert model.batches == [[2, 3, 4, 1], [10]]
    for task in never:
        task.cancel()


async def test_for_those_who_wait_a_batch_takes_from_the_end_of_the_one_before(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three are computed one by one; before the first and the third, which waits through that, the batcher waits."""
    doubler, ready, observed = patient(Model(), executor, 0.2), asyncio.Event(), list[float]()
    monkeypatch.setattr(doubler.time, "observe", lambda rows, seconds: observed.append(seconds))
    others = [asyncio.create_task(prepared(doubler, job, ready)) for job in (2, 3, 4, 6)]
    await asyncio.sleep(0)
    assert await submit_all(doubler, [1, 5, 7]) == [2, 10, 14]
    assert observed[2] >= 0.2
    ready.set()
    await asyncio.gather(*others)


async def test_after_waiting_in_vain_the_batcher_rests_longer_and_longer_until_they_come(
    executor: ThreadPoolExecutor,
) -> None:
    """One batch, then three, then seven are computed without waiting."""
    model, waited, place = Model(), set[int](), 0
    doubler, ready = patient(model, executor, 0.05), asyncio.Event()

    async def look() -> None:
        while True:
            if doubler.waits:
                waited.add(place)
                if place == 14:
                    ready.set()
            await asyncio.sleep(0)

    looks = asyncio.create_task(look())
    others = [asyncio.create_task(prepared(doubler, job, ready)) for job in (2, 3, 4)]
    await asyncio.sleep(0)
    with doubler.admitted(FOREVER):
        for place in range(14):  # noqa: B007 - look reads it
            await doubler.submit(1, deadline=FOREVER)
        assert (waited, doubler.resting) == ({0, 2, 6}, 0)
        place = 14
        assert await asyncio.gather(doubler.submit(1, deadline=FOREVER), *others) == [2, 4, 6, 8]
    looks.cancel()
    assert model.batches[-1] == [1, 2, 3, 4]
    assert doubler.resting == 0
