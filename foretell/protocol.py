"""HTTP/1.1 as uvicorn speaks it, and a limit for clients that never finish their headers."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds from the first byte of a request, or from the connection where none comes, to the end of the headers.
HEADER_SECONDS = 10.0


class Protocol(HttpToolsProtocol):
    """Closes a connection whose headers do not arrive in time; uvicorn alone would keep it for ever."""

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
        super().on_headers_complete()

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
