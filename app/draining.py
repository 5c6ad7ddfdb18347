"""The end, seen from outside: first nobody new is sent here, then the port closes, then the last answers go out."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.health import Health

log = structlog.stdlib.get_logger(__name__)


@contextmanager
def draining(health: Health, seconds: float) -> Iterator[None]:
    """While it lasts, SIGTERM first makes the service say that it is leaving; whoever handled the signal before (the
    server, which then closes the port and waits for running requests) gets it ``seconds`` later.

    A second SIGTERM ends the wait. Ctrl-C is not delayed.
    """
    earlier = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(earlier):
        yield  # nobody would handle the signal afterwards
        return
    loop = asyncio.get_running_loop()

    def leave(number: int, frame: FrameType | None) -> None:
        first, health.leaving = not health.leaving, True
        # Python runs signal handlers between two steps of the loop, which may sleep: only this wakes it.
        loop.call_soon_threadsafe(loop.call_later, seconds if first else 0.0, earlier, number, None)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)


class DrainMiddleware:
    """While the service is leaving, each answer closes its connection: a client that kept it would send its next
    request into a closing one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes pass through."""
        health: Health | None = scope.get("state", {}).get("health")
        if scope["type"] != "http" or health is None or not health.leaving:
            await self.app(scope, receive, send)
            return

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self.app(scope, receive, send_and_close)
