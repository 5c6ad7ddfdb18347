"""Deadlines: absolute times of the event loop, passed down and obeyed."""

from __future__ import annotations

import asyncio
from types import TracebackType

from app.errors import DeadlineExceeded


def after(milliseconds: float) -> float:
    """The loop time this many milliseconds from now."""
    return asyncio.get_running_loop().time() + milliseconds / 1000


class within:
    """An async context whose body is cancelled when the deadline passes. Never wrap a Redis command in it: those have
    their own timeout.

    Raises:
        DeadlineExceeded: the deadline passed, before or during the body.
    """

    __slots__ = ("_timeout",)

    def __init__(self, deadline: float) -> None:
        self._timeout = asyncio.timeout_at(deadline)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise DeadlineExceeded("The answer was not ready within FORETELL_DEADLINE_MS; try again.") from None
