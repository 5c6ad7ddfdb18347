"""A model to try the batcher with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from app.batching import Batcher

FOREVER = float("inf")


class Model:
    """Doubles numbers; waits at a gate before each batch, refuses negative numbers, remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.gate.wait()
        self.batches.append(list(jobs))
        if min(jobs) < 0:
            raise ValueError("negative")
        return [2 * job for job in jobs]


async def submit_all(doubler: Batcher[int, int], jobs: Sequence[int]) -> list[int | BaseException]:
    tasks = [asyncio.create_task(doubler.submit(job, deadline=FOREVER)) for job in jobs]
    return list(await asyncio.gather(*tasks, return_exceptions=True))
