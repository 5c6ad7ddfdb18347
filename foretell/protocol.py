"""HTTP/1.1 as uvicorn speaks it, a limit for clients that never finish their headers, and refusals at the door."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.door import PATH, Door

#: Seconds from the first byte of a request, or from the connection where none comes, to the end of the headers.
HEADER_SECONDS = 10.0

#: Stands for a request that was answered here: uvicorn passes its body over.
ANSWERED: Any = SimpleNamespace(response_complete=True, message_event=asyncio.Event(), disconnected=False)


class Protocol(HttpToolsProtocol):
    """Closes a connection whose headers do not arrive in time, which uvicorn alone would keep for ever, and answers
    those that :class:`app.door.Door` refuses before there is a task for them."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._headers_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request on a connection that was kept."""
        super().on_message_begin()
        if self._header_timer is None:
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """From here on the application keeps the time."""
        self._headers_came()
        if self.url != PATH.encode() or not self._refused():
            super().on_headers_complete()

    def _refused(self) -> bool:
        """Whether the request was answered here. What is pipelined behind another one waits for its turn."""
        door: Door | None = self.app_state.get("door")
        busy = self.cycle is not None and not self.cycle.response_complete
        if door is None or busy or self.expect_100_continue or self.parser.get_method() != b"POST":
            return False
        if not self.parser.should_keep_alive() or (answer := door.refusal(self.headers)) is None:
            return False
        self.cycle = ANSWERED
        self._wait_for_headers()  # for the rest of the request, rather
        self.transport.write(answer)
        return True

    def on_message_complete(self) -> None:
        """The whole request is here."""
        if self.cycle is ANSWERED:
            self._headers_came()
            self.on_response_complete()  # keeps the connection for the next one
        else:
            super().on_message_complete()

    def _wait_for_headers(self) -> None:
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._close)

    def _headers_came(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close(self) -> None:
        self._header_timer = None
        transport: Any = self.transport
        if not transport.is_closing():
            transport.close()
