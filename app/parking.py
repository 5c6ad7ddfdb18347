"""Clients that are refused and ask again at once: how often a second that is listened to."""

from __future__ import annotations

import asyncio
from typing import Protocol

from app.metrics import Metrics

#: Refusals of a process a second, and at once, beyond which connections wait for their turn: a sixth of a core, and
#: twice what it refuses where strangers ask three times what it can answer.
RATE, BURST = 5_000.0, 500.0
#: Seconds between two looks at whose turn it is.
TICK = 0.01


class Parked(Protocol):
    """A connection that can be left unread."""

    def leave_unread(self) -> None:
        """Read nothing until :meth:`read_on`; what arrives waits in the kernel, or with the client."""
        ...

    def read_on(self) -> None:
        """Read again, if it is still open."""
        ...


class Parking:
    """Refusals by a token bucket: who was refused when it was empty is read again in the order of the refusals.

    A refusal costs little, but a thousand clients that do not heed ``Retry-After`` ask for tens of thousands a second,
    and the loop, which goes before the model, would do nothing else. Everybody is answered at once. What has to wait is
    the next request on the connection: a few milliseconds, or, where very many ask, as long as it takes to leave the
    model its share of the processor.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tokens = BURST
        self._filled_at = 0.0
        self._waiting: dict[Parked, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def refused(self, connection: Parked) -> None:
        """A request on this connection was refused, and is over."""
        self._fill()
        self._tokens = max(self._tokens - 1, -BURST)
        if self._tokens < 0:
            connection.leave_unread()
            self._waiting[connection] = None
            self._metrics.parked.inc()
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(TICK, self._release)

    def _release(self) -> None:
        """Read as many again as may be refused."""
        self._fill()
        for connection in list(self._waiting)[: max(int(self._tokens), 0)]:
            del self._waiting[connection]
            connection.read_on()
        self._timer = asyncio.get_running_loop().call_later(TICK, self._release) if self._waiting else None

    def _fill(self) -> None:
        now = asyncio.get_running_loop().time()
        self._tokens = min(self._tokens + RATE * (now - self._filled_at), BURST)
        self._filled_at = now
