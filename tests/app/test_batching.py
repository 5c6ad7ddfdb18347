"""The micro-batcher: everybody gets their own answer, in batches that form only while the model is busy."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.batching import Batcher, BatchTime
from app.errors import DeadlineExceeded, Overloaded
from app.metrics import Metrics
from tests.app.doubling import FOREVER, Model, submit_all


def batcher(model: Model, executor: ThreadPoolExecutor, max_batch: int = 4, limit: int = 100) -> Batcher[int, int]:
    return Batcher("double", model, executor, Metrics(), max_batch=max_batch, queue_limit=limit)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(jobs=st.lists(st.integers(-3, 1000), max_size=60), max_batch=st.integers(1, 8))
def test_everybody_gets_their_own_answer_and_only_bad_input_fails(
    executor: ThreadPoolExecutor, jobs: list[int], max_batch: int
) -> None:
    model = Model()
    results = asyncio.run(submit_all(batcher(model, executor, max_batch), jobs))
    for job, result in zip(jobs, results, strict=True):
        if job < 0:
            assert isinstance(result, ValueError)
        else:
            assert result == 2 * job
    assert all(len(batch) <= max_batch for batch in model.batches)


class PaddingModel:
    """Doubles rows of numbers in one array, padded to the longest, as the runtime scores candidates."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, jobs: Sequence[list[int]]) -> list[list[int]]:
        rows = np.zeros((len(jobs), max(len(job) for job in jobs)), np.int64)
        for row, job in zip(rows, jobs, strict=True):
            row[: len(job)] = job
        self.seen += jobs
        self.shapes.append(rows.shape)
        return [row[: len(job)].tolist() for row, job in zip(2 * rows, jobs, strict=True)]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    widths=st.lists(st.sampled_from([0, 1, 2, 3, 10, 40]), max_size=40),
    max_batch=st.integers(1, 8),
    max_rows=st.integers(1, 50),
)
def test_a_batch_is_bounded_in_rows_and_the_queue_keeps_its_order(
    executor: ThreadPoolExecutor, widths: list[int], max_batch: int, max_rows: int
) -> None:
    """Whatever the widths: own answers, first come first served, and only a job wider than the bound exceeds it."""
    model = PaddingModel()
    doubler = Batcher(
        "double", model, executor, Metrics(), max_batch=max_batch, queue_limit=100, width=len, max_rows=max_rows
    )
    jobs = [[1000 * place + i for i in range(width)] for place, width in enumerate(widths)]

    async def submit_all() -> list[list[int]]:
        return await asyncio.gather(*(doubler.submit(job, deadline=FOREVER) for job in jobs))

    assert asyncio.run(submit_all()) == [[2 * number for number in job] for job in jobs]
    assert model.seen == jobs
    assert all(count <= max_batch and (count == 1 or count * width <= max_rows) for count, width in model.shapes)


async def test_a_wide_job_neither_overtakes_nor_is_overtaken(executor: ThreadPoolExecutor) -> None:
    """Bound 6: [2, 2, 2] fit; 5 would make them 20 rows, so it starts the next batch, alone with nobody."""
    model = PaddingModel()
    doubler = Batcher("double", model, executor, Metrics(), max_batch=8, queue_limit=100, width=len, max_rows=6)
    jobs = [[1, 1], [2, 2], [3, 3], [4] * 5, [5], [6]]
    await asyncio.gather(*(doubler.submit(job, deadline=FOREVER) for job in jobs))
    assert model.shapes == [(3, 2), (1, 5), (2, 1)]


async def test_an_idle_model_starts_at_once_and_a_busy_one_finds_a_batch(executor: ThreadPoolExecutor) -> None:
    model = Model()
    doubler = batcher(model, executor)
    model.gate.clear()
    first = asyncio.create_task(doubler.submit(1, deadline=FOREVER))
    await asyncio.sleep(0)  # one turn of the loop: the first is on its way, alone
    await asyncio.sleep(0)
    rest = [asyncio.create_task(doubler.submit(job, deadline=FOREVER)) for job in range(2, 8)]
    await asyncio.sleep(0)
    model.gate.set()
    assert await asyncio.gather(first, *rest) == [2, 4, 6, 8, 10, 12, 14]
    assert model.batches == [[1], [2, 3, 4, 5], [6, 7]]


async def test_a_full_queue_refuses_at_once(executor: ThreadPoolExecutor) -> None:
    model = Model()
    doubler = batcher(model, executor, max_batch=1, limit=2)
    model.gate.clear()
    tasks = [asyncio.create_task(doubler.submit(job, deadline=FOREVER)) for job in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first left the queue for the model
    tasks.append(asyncio.create_task(doubler.submit(2, deadline=FOREVER)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await doubler.submit(3, deadline=FOREVER)
    model.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4]


def test_the_time_of_a_batch_is_fitted_as_a_line_and_old_batches_fade() -> None:
    """2 ms a batch and 0.1 ms a row; then a machine that is twice as slow, after ten half-lives."""
    time = BatchTime()
    assert time(50) == 0.0
    for rows in (1, 10, 100, 32):
        time.observe(rows, 0.002 + 0.0001 * rows)
    assert (time.a, time.b) == pytest.approx((0.0001, 0.002))
    assert time(50, batches=2) == pytest.approx(0.009)
    for rows in (1, 10, 100, 32) * 250:
        time.observe(rows, 0.004 + 0.0002 * rows)
    assert (time.a, time.b) == pytest.approx((0.0002, 0.004), rel=0.01)


@given(st.lists(st.tuples(st.integers(1, 3000), st.floats(0, 5)), min_size=1, max_size=50))
def test_no_batch_is_expected_to_take_less_than_nothing(batches: list[tuple[int, float]]) -> None:
    time = BatchTime()
    for rows, seconds in batches:
        time.observe(rows, seconds)
    assert time.a >= 0
    assert time.b >= -1e-9
    assert np.isfinite([time.a, time.b]).all()


async def test_who_cannot_be_answered_in_time_is_refused_at_the_door(executor: ThreadPoolExecutor) -> None:
    """A batch of one takes a second: two wait, so a third would be done after four, one running included."""
    model = Model()
    doubler = Batcher("double", model, executor, Metrics(), max_batch=1, queue_limit=100)
    doubler.time.observe(1, 1.0)
    model.gate.clear()
    loop = asyncio.get_running_loop()
    tasks = [asyncio.create_task(doubler.submit(0, deadline=FOREVER))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    tasks += [asyncio.create_task(doubler.submit(job, deadline=FOREVER)) for job in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded) as refusal:
        await doubler.submit(3, deadline=loop.time() + 3.5)
    assert refusal.value.headers == {"Retry-After": "4"}
    tasks.append(asyncio.create_task(doubler.submit(4, deadline=loop.time() + 30)))
    tasks.append(asyncio.create_task(doubler.submit(5, deadline=FOREVER)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):  # it would be done after six
        await doubler.submit(6, deadline=loop.time() + 5.5)
    model.gate.set()
    assert await asyncio.gather(*tasks) == [0, 2, 4, 8, 10]
    assert model.batches == [[0], [1], [2], [4], [5]]


async def test_those_inside_count_before_they_wait(executor: ThreadPoolExecutor) -> None:
    """A batch of two takes a second: with two seconds left four are let in, and another when one has left."""
    doubler = Batcher("double", Model(), executor, Metrics(), max_batch=2, queue_limit=100)
    doubler.time.observe(2, 1.0)
    soon = asyncio.get_running_loop().time() + 2.1
    with ExitStack() as inside:
        for _ in range(3):
            inside.enter_context(doubler.admitted(soon))
        with doubler.admitted(soon), pytest.raises(Overloaded), doubler.admitted(soon):
            pytest.fail("let in")
        with doubler.admitted(soon):
            pass


async def test_a_spoilt_fit_lets_somebody_in_and_mends(executor: ThreadPoolExecutor) -> None:
    """One batch took a minute; nobody waits, so the next comes in, and after some quick ones so does everybody."""
    doubler = batcher(Model(), executor)
    doubler.time.observe(1, 60.0)
    loop = asyncio.get_running_loop()
    for _ in range(20):
        assert await doubler.submit(1, deadline=loop.time() + 2) == 2
    assert doubler.time(1) < 60 / 15


async def test_a_passed_deadline_is_told_and_nothing_is_computed(executor: ThreadPoolExecutor) -> None:
    model = Model()
    doubler = batcher(model, executor)
    with pytest.raises(DeadlineExceeded):
        await doubler.submit(1, deadline=asyncio.get_running_loop().time() - 1)
    assert model.batches == []


async def test_who_gave_up_is_not_computed(executor: ThreadPoolExecutor) -> None:
    model = Model()
    doubler = batcher(model, executor)
    model.gate.clear()
    first = asyncio.create_task(doubler.submit(1, deadline=FOREVER))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gone = asyncio.create_task(doubler.submit(2, deadline=FOREVER))
    stays = asyncio.create_task(doubler.submit(3, deadline=FOREVER))
    await asyncio.sleep(0)
    gone.cancel()
    model.gate.set()
    assert [await first, await stays] == [2, 6]
    assert model.batches == [[1], [3]]
