"""Circuit breakers: a part that does not answer is left alone, and asked in the background until it is back.

The state machine is purgatory's (docs/decisions/0011); what is ours is that no request is ever the one that tries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal, Protocol, TypeVar

import structlog
from purgatory import SyncCircuitBreakerFactory
from purgatory.domain.model import CLOSED

from app.errors import StoreUnavailable

T = TypeVar("T")
Part = Literal["cache", "history"]

#: Told whether the breaker of a part is open, whenever that changes.
OnTurn = Callable[[Part, bool], None]

#: Seconds from a breaker's opening to its first probe, and between two probes.
PROBE_SECONDS = 0.5
#: Failures in a row that open a breaker. One may be bad luck; requests that wait together fail together.
FAILURES = 3

log = structlog.stdlib.get_logger(__name__)


def nobody_told(part: Part, opened: bool) -> None:
    """Nobody wants to know."""


class Guard(Protocol):
    """Something between a caller and a store."""

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """What ``work`` gives. Raises what it raises, or that its part is lost."""
        ...


async def unguarded(work: Callable[[], Awaitable[T]]) -> T:
    """A guard that lets everything pass."""
    return await work()


class Breaker:
    """Closed, everybody asks. After FAILURES in a row it opens: everybody is told at once that the part is lost, while
    a task asks every PROBE_SECONDS; the first answer closes it.

    Args:
        part: what it guards.
        lost: what callers are told; work raises it as well, and an error that was ``answered`` is no failure.
        probe: asks the part for a sign of life; raises StoreUnavailable where there is none in its usual time.
        seconds: longest that work may take, waiting for a thread or a connection included; None: the work knows itself.
    """

    def __init__(
        self,
        part: Part,
        lost: type[StoreUnavailable],
        probe: Callable[[], Awaitable[object]],
        *,
        seconds: float | None = None,
        on_turn: OnTurn = nobody_told,
    ) -> None:
        self._part = part
        self._lost = lost
        self._probe = probe
        self._seconds = seconds
        self._on_turn = on_turn
        # Half-open as soon as it is asked: the probe alone asks, and its task keeps the time.
        self._circuit = SyncCircuitBreakerFactory(FAILURES, default_ttl=-1.0).get_breaker(part)
        self._probing: asyncio.Task[None] | None = None

    @property
    def closed(self) -> bool:
        """Whether the part may be asked."""
        return self._circuit.context.state == CLOSED

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """See :class:`Guard`. Work that is cancelled says nothing about the part."""
        if not self.closed:
            raise self._lost(f"The {self._part} did not answer a moment ago; it is asked again in the background.")
        try:
            async with asyncio.timeout(self._seconds):
                result = await work()
        except TimeoutError as error:
            late = self._lost(f"The {self._part} did not answer in time; try again.")
            self._note(late)
            raise late from error
        except StoreUnavailable as error:
            self._note(None if error.answered else error)
            raise
        self._note(None)
        return result

    async def close(self) -> None:
        """End the task in the background."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)

    def _note(self, failure: StoreUnavailable | None) -> None:
        """Tell the state machine how one piece of work ended; a result that comes while it is open is old news."""
        was_closed = self.closed
        if not was_closed:
            return
        with suppress(StoreUnavailable), self._circuit:
            if failure is not None:
                raise failure
        if not self.closed:
            log.warning("breaker_opened", part=self._part, problem=str(failure))
            self._on_turn(self._part, True)
            self._probing = asyncio.get_running_loop().create_task(self._ask_until_it_answers())

    async def _ask_until_it_answers(self) -> None:
        while not self.closed:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                with self._circuit:
                    await self._answer()
            except StoreUnavailable:
                continue
            except Exception:  # no error ends this: nobody else would close the breaker
                log.exception("probe_failed", part=self._part)
        log.info("breaker_closed", part=self._part)
        self._on_turn(self._part, False)

    async def _answer(self) -> None:
        """A sign of life: a refusal is one, too."""
        try:
            await self._probe()
        except StoreUnavailable as error:
            if not error.answered:
                raise
