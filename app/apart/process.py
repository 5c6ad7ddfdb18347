"""The model process, from its start to its end; :class:`foretell.model_process.ModelProcess` starts it."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from socket import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.metrics import Metrics
    from app.runtime import Runtime
    from app.settings import Settings

#: The exit code of a start that failed and would fail again.
FAILED = 3


def run(listener: socket, ready: Connection, version: str | None) -> None:
    """Load the model, say its version to ``ready``, and answer who connects; until SIGTERM, and nobody is connected.

    Settings come from the environment; ``version`` wins over it, where it is given. Ctrl-C and a closed terminal reach
    every process at once, but this one is still needed by those that answer their last requests.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Here, because the supervisor imports this module as well, and needs none of it.
    import uvloop

    from app import logs
    from app.garbage import settle
    from app.metrics import Metrics
    from app.settings import load_settings

    settings = load_settings(model_version=version, workers=1)  # it alone computes, so all cores are its own
    logs.configure(settings)
    metrics = Metrics()
    runtime = _load(settings, metrics)
    settle()
    ready.send(runtime.artifact.version)
    ready.close()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(runtime, listener, metrics))
    runtime.close()
    metrics.close()


def _load(settings: Settings, metrics: Metrics) -> Runtime:
    """The model; where it cannot be loaded, the log says why and the process ends."""
    import structlog

    from app.errors import StartupError
    from app.loading import load
    from models.artifact import ArtifactError
    from models.contract import ContractError

    try:
        return load(settings, metrics)
    except (StartupError, ArtifactError, ContractError) as error:
        structlog.stdlib.get_logger(__name__).error(str(error))
        sys.exit(FAILED)


async def _serve(runtime: Runtime, listener: socket, metrics: Metrics) -> None:
    from app.apart.host import Host

    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    host = Host(runtime)
    async with metrics.settling(), host.serving(listener):
        await leaving.wait()
        await host.left()


def _end_with_parent() -> None:
    """However the supervisor ends, nobody starts this process again or ends it."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
