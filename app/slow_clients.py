"""Clients that send a byte now and then: a body gets a time limit as it gets a length limit."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import RequestTooSlow
from app.middleware import ARRIVED


class SlowClientMiddleware:
    """Gives a request ``seconds`` from its arrival to its last byte; then it is answered 408 and the connection closed.

    Headers come before any application is called: :class:`foretell.protocol.Protocol` gives them as long.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        complete = False

        async def receive_in_time() -> Message:
            nonlocal complete
            if complete:  # what comes now is that the client left, whenever it likes
                return await receive()
            try:
                async with asyncio.timeout(scope[ARRIVED] + self.seconds - time.perf_counter()):
                    message = await receive()
            except TimeoutError:
                raise RequestTooSlow.after(self.seconds) from None
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, receive_in_time, send)
