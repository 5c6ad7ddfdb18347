"""Which parts of the service answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from app.errors import CacheUnavailable, HistoryUnavailable

Part = Literal["ok", "lost"]
Probe = Callable[[], Awaitable[object]]

#: Seconds an answer of the probes is good for, so that a scrape a second costs the stores one ping a second.
FRESH = 1.0

#: Seconds a part gets to answer: less than the second that orchestrators usually give the whole probe.
PATIENCE = 0.5


class Health:
    """The stores as they are now.

    It is built when the model is verified and warm and both stores have answered; from then on the service is ready,
    even when a store is lost (it answers without it), until it is told to end or loses a model that is elsewhere.

    Args:
        probes: by the name of a part (``cache``, ``history``), a coroutine function that raises
            CacheUnavailable or HistoryUnavailable.
        check_model: raises ModelUnavailable where there is no model to ask; without it nobody is predicted anything.
    """

    def __init__(
        self,
        probes: Mapping[str, Probe],
        clock: Callable[[], float] = time.monotonic,
        check_model: Callable[[], None] = lambda: None,
    ) -> None:
        self.leaving = False
        self.check_model = check_model
        self._probes = probes
        self._clock = clock
        self._lock = asyncio.Lock()
        self._parts: dict[str, Part] = {}
        self._until = float("-inf")

    async def parts(self) -> dict[str, Part]:
        """Each part and whether it answers, at most FRESH seconds old."""
        async with self._lock:
            if self._clock() >= self._until:
                answers = await asyncio.gather(*(_answers(probe) for probe in self._probes.values()))
                self._parts = dict(zip(self._probes, answers, strict=True))
                self._until = self._clock() + FRESH
            return dict(self._parts)


async def _answers(probe: Probe) -> Part:
    try:
        async with asyncio.timeout(PATIENCE):
            await probe()
    except (CacheUnavailable, HistoryUnavailable, TimeoutError):
        return "lost"
    return "ok"
