"""Deadlines: absolute times of the event loop, passed down and obeyed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import DeadlineExceeded


def after(milliseconds: float) -> float:
    """The loop time this many milliseconds from now."""
    return asyncio.get_running_loop().time() + milliseconds / 1000


@asynccontextmanager
async def within(deadline: float) -> AsyncIterator[None]:
    """Cancel the body when the deadline passes. Never wrap a Redis command in it: those have their own timeout.

    Raises:
        DeadlineExceeded: the deadline passed, before or during the body.
    """
    try:
        async with asyncio.timeout_at(deadline) as timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise DeadlineExceeded("The answer was not ready within FORETELL_DEADLINE_MS; try again.") from None
