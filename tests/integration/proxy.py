"""A TCP proxy in front of a real store, so that a test can take the store away and give it back."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Self

#: Turns of the event loop in which connections that were accepted last reach ``_serve`` and aborted ones close.
TURNS = 20


class Proxy:
    """Forwards every connection to ``target``, a port on this machine. Use it as an async context.

    ``cut`` closes and refuses connections, ``hold`` keeps them open but lets no reply through, ``delay`` makes each
    piece of a reply later by so many seconds, ``mend`` ends all three. ``reset`` breaks the connections there are.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay = 0.0
        self._cut = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = set()
        self.connections = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for listener in self._server.sockets:  # accept no more; Server.close would leak what was accepted just now
            asyncio.get_running_loop().remove_reader(listener)
        await _turns()
        await asyncio.gather(*self._opening, return_exceptions=True)
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await _turns()

    def cut(self) -> None:
        """Close every connection; new ones are closed at once."""
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def reset(self) -> None:
        """Break every connection as a crashed machine does: a RST in place of a goodbye."""
        for writer in list(self._writers):
            if raw := writer.get_extra_info("socket"):
                with suppress(OSError):
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def hold(self) -> None:
        """Keep replies back."""
        self._flows.clear()

    def mend(self) -> None:
        """Work again."""
        self._cut = False
        self.delay = 0.0
        self._flows.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        self.connections += 1
        self._writers.add(writer)
        opening = asyncio.ensure_future(asyncio.open_connection("127.0.0.1", self.target))
        self._opening.add(opening)
        try:
            there_reader, there_writer = await opening
        except OSError:  # nobody there: the client is told as if it had asked itself
            self._writers.discard(writer)
            writer.transport.abort()
            return
        finally:
            self._opening.discard(opening)
        self._writers.add(there_writer)
        for source, sink, replies in ((reader, there_writer, False), (there_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, replies))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, replies: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if replies:
                    await self._flows.wait()
                    if self.delay:
                        await asyncio.sleep(self.delay)
                sink.write(data)
                await sink.drain()
        sink.transport.abort()
        self._writers.discard(sink)


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)
