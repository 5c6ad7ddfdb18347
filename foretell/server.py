"""Uvicorn, on a socket that is taken before anything slow begins, and with a word when it answers."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from app import metrics
from foretell import balance
from foretell.address import ListenError

log = structlog.stdlib.get_logger(__name__)


class Supervisor(Multiprocess):
    """Several processes that serve one socket."""

    @property
    def failed(self) -> bool:
        """Whether the start failed; the log has the sentence."""
        return any(process.exitcode == STARTUP_FAILURE for process in self.processes)

    def terminate_all(self) -> None:
        """Tell the workers to end, and let go of the socket: else connections that nobody takes any more would wait
        here until they break, instead of being refused once the last worker has closed its port."""
        super().terminate_all()
        for bound in self.sockets:
            bound.close()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that have died, and take what they measured last out of the metrics and of the balance of
        connections: nobody else would, and an alert about what waits in a dead worker would ring for ever."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            if pid is not None:
                metrics.forget(pid)
                balance.forget(pid)


class Server(uvicorn.Server):
    """One process that serves.

    Args:
        config: what uvicorn needs to know.
        on_ready: called once, when requests are answered; not where a signal came before.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then listen. Raises SystemExit where either fails; the log has the sentence."""
        await super().startup(sockets)
        if any(bound.fileno() == -1 for bound in sockets or ()):
            # Another program listens there since it was bound; uvloop closes the socket then, without a word.
            error = OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            log.error(str(ListenError(self.config.host, self.config.port, error)))
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILURE)
        if not self.should_exit:
            self._on_ready()
