"""Connections shared evenly among the workers of one socket.

Left alone, the worker that wakes first takes all that wait, and keeps them for as long as they are kept alive: one may
come to have nearly all, and their requests wait for it while its like is idle. So workers tell each other how many they
have, and who has more than another lets that one go first. Envoy's ``exact_balance`` does as much for its threads.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from ssl import SSLContext
from typing import Any

import structlog
import uvloop
from uvicorn.config import STARTUP_FAILURE

from foretell.address import ListenError
from foretell.protocol import Protocol

log = structlog.stdlib.get_logger(__name__)

#: The environment variable that tells workers the folder in which they count.
FOLDER = "FORETELL_CONNECTIONS_DIR"
#: Connections that a worker may have more than another, before it waits; and the same as a share of what it has. Up to
#: so many it may have none more: where a few clients keep theirs, one of two workers could else have them all.
SLACK, SLACK_SHARE, EXACT = 2, 0.1, 32
#: Seconds for which it lets others go first. Then it takes one: the others may be busy, or gone.
COURTESY = 0.001
#: Seconds to wait where this process has no file descriptor left.
EXHAUSTED = 1.0
#: Seconds between looks at who is there.
LOOK = 0.5
#: Of a count in its file.
BYTES = 4


class Tally:
    """How many connections each worker has: a file a process, because a process that is killed can then neither leave
    a lock behind nor spoil another's count.

    Args:
        folder: of the files; each is named by its process.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self._own: mmap | None = None
        self._others: dict[str, mmap] = {}
        self._look_at = 0.0

    def join(self) -> None:
        """From now on this process takes connections. Idempotent."""
        if self._own is None:
            file = self.folder / f"{os.getpid()}.new"
            file.write_bytes(bytes(BYTES))
            self._own = _mapped(file.rename(self.folder / str(os.getpid())))

    def leave(self) -> None:
        """It takes no more of them, though some may stay. Idempotent."""
        if self._own is not None:
            self._own = None
            (self.folder / str(os.getpid())).unlink(missing_ok=True)

    def add(self, number: int) -> None:
        """Count connections that came, or, below zero, that ended."""
        self.count += number
        if self._own is not None:
            self._own[:] = self.count.to_bytes(BYTES, "little")

    @property
    def ahead(self) -> bool:
        """Whether this process has more connections than some other, by more than the slack."""
        if (now := time.monotonic()) >= self._look_at:
            self._look()
            self._look_at = now + LOOK
        slack = 0 if self.count <= EXACT else max(SLACK, int(SLACK_SHARE * self.count))
        most = self.count - slack
        return any(int.from_bytes(other, "little") < most for other in self._others.values())

    def _look(self) -> None:
        """See who is there: nobody, where the folder was cleaned away or no file descriptor is left to read it."""
        names: set[str] = set()
        with suppress(OSError):
            names = {file.name for file in self.folder.iterdir() if not file.suffix} - {str(os.getpid())}
        self._others = {name: other for name, other in self._others.items() if name in names}
        for name in names - set(self._others):
            with suppress(OSError):  # it has just left
                self._others[name] = _mapped(self.folder / name)


def _mapped(file: Path) -> mmap:
    with file.open("r+b") as opened:
        return mmap(opened.fileno(), BYTES)


def forget(pid: int) -> None:
    """Take a worker out that has ended and could not do so itself."""
    if FOLDER in os.environ:
        (Path(os.environ[FOLDER]) / str(pid)).unlink(missing_ok=True)


class Loop(uvloop.Loop):
    """The event loop of a worker: what listens on a given socket takes part in the balance."""

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally(Path(os.environ[FOLDER]))

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        """See asyncio; a socket that is given is one that the workers share. Raises SystemExit where another program
        listens there since it was bound; the log has the sentence."""
        shared: socket.socket | None = options.get("sock")
        if shared is None:
            return await super().create_server(protocol_factory, *args, **options)
        shared.setblocking(False)
        try:
            shared.listen(options["backlog"])
        except OSError as error:
            host, port, *_ = shared.getsockname()
            log.error(str(ListenError(host, port, error)))
            raise SystemExit(STARTUP_FAILURE) from error
        return Listener(self, shared, protocol_factory, options["ssl"])


class BalancedProtocol(Protocol):
    """Counts what ends; :class:`Listener` has counted it when it came."""

    def connection_lost(self, exc: Exception | None) -> None:
        """One less."""
        super().connection_lost(exc)
        loop: Any = self.loop
        loop.tally.add(-1)


class Listener:
    """Takes connections from a socket that other processes take from as well. What uvicorn asks
    of an :class:`asyncio.Server`, and no more."""

    def __init__(
        self, loop: Loop, shared: socket.socket, factory: Callable[[], asyncio.Protocol], ssl: SSLContext | None
    ) -> None:
        self._loop = loop
        self._socket = shared
        self._factory = factory
        self._ssl = ssl
        self._opening: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        loop.tally.join()
        self._listen()

    def close(self) -> None:
        """Take no more connections; those that are open stay. Idempotent."""
        self._loop.tally.leave()
        self._pause()

    async def wait_closed(self) -> None:
        """Until no connection is being opened."""
        await asyncio.gather(*self._opening)

    def _listen(self) -> None:
        self._loop.add_reader(self._socket, self._offered)

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pause_for(self, seconds: float) -> None:
        self._pause()
        self._timer = self._loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        """Take one, whoever has more."""
        self._timer = None
        self._listen()
        if self._accept():
            self._offered()

    def _offered(self) -> None:
        """Some connections wait: take them, as long as it is this worker's turn."""
        while not self._loop.tally.ahead:
            if not self._accept():
                return
        self._pause_for(COURTESY)

    def _accept(self) -> bool:
        """Take a connection; False where there is none."""
        try:
            connection, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return False  # another worker was first, or the client has gone
        except (
            OSError
        ) as error:  # no file descriptor is left: the connection still waits, and would be offered for ever
            log.error("connections_wait", reason=error.strerror, seconds=EXHAUSTED)
            self._pause_for(EXHAUSTED)
            return False
        self._loop.tally.add(1)
        opening = self._loop.create_task(self._open(connection))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)
        return True

    async def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await self._loop.connect_accepted_socket(self._factory, connection, ssl=self._ssl)
        except OSError:  # a TLS handshake that failed: there is no protocol that would count the end
            self._loop.tally.add(-1)
