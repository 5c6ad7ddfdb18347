"""One end of a connection: messages of one turn of the event loop go out in one write."""

from __future__ import annotations

import asyncio
import struct
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

from app.apart.messages import dumps, loads

#: Before each frame stands its length.
LENGTH = struct.Struct("<Q")


class Frames(asyncio.Protocol):
    """Sends messages, and is told of those that come. What both ends add, their subclasses say."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._incoming = bytearray()
        self._outgoing: list[Any] = []

    @abstractmethod
    def head(self) -> Any:
        """What is said beside every frame, asked for when it goes."""

    @abstractmethod
    def received(self, head: Any, messages: Sequence[Any]) -> None:
        """A frame has come."""

    def send(self, message: Any) -> None:
        """Send a message at the end of this turn of the loop; nothing happens where nobody is there any more."""
        self._outgoing.append(message)
        if len(self._outgoing) == 1:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """End the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        incoming = self._incoming
        incoming += data
        while (end := self._end()) <= len(incoming):
            with memoryview(incoming) as view, view[LENGTH.size : end] as part:
                head, messages = loads(part)
            del incoming[:end]
            self.received(head, messages)

    def _end(self) -> int:
        """Where the first frame ends; beyond all bytes where not even its length has come."""
        if len(self._incoming) < LENGTH.size:
            return LENGTH.size
        return LENGTH.size + int(LENGTH.unpack_from(self._incoming)[0])

    def _flush(self) -> None:
        messages, self._outgoing = self._outgoing, []
        if self._transport is not None:
            data = dumps((self.head(), messages))
            self._transport.write(LENGTH.pack(len(data)) + data)
