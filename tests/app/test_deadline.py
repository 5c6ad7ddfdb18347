"""Deadlines cancel what takes too long, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from app.deadline import after, within
from app.errors import DeadlineExceeded


async def test_work_past_the_deadline_is_cancelled() -> None:
    work = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        async with within(after(5)):
            await work

    with pytest.raises(DeadlineExceeded):
        await wait()
    assert work.cancelled()


async def test_work_within_the_deadline_is_left_alone() -> None:
    async with within(after(60_000)):
        await asyncio.sleep(0)


async def test_a_timeout_of_something_else_stays_what_it_is() -> None:
    with pytest.raises(TimeoutError, match="a socket"):
        async with within(after(60_000)):
            raise TimeoutError("a socket")
