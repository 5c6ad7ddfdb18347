"""``foretell serve``: the online service, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from foretell.console import USAGE, fail
from foretell.signals import handled

if TYPE_CHECKING:
    from socket import socket

    from uvicorn import Config

    from app.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on [FORETELL_HOST].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [FORETELL_PORT].")] = None,
    workers: Annotated[int | None, typer.Option(help="Server processes [FORETELL_WORKERS].")] = None,
) -> None:
    """Serve predictions over HTTP.

    Everything is set by FORETELL_* variables (see the README); the options here win over them.
    """
    from app.settings import SettingsError, load_settings

    try:
        settings = load_settings(host=host, port=port, workers=workers)
    except SettingsError as error:
        fail("\n".join(error.problems), USAGE)
    raise typer.Exit(run(settings))


def run(settings: Settings, listener: socket | None = None, on_ready: Callable[[], None] = lambda: None) -> int:
    """Serve until a signal comes; returns the exit code: 0 after a graceful stop, 1 when the start failed.

    A signal ends the service, not this process: the caller can clean up after it.

    Args:
        listener: bound already, closed afterwards; left out, the address of the settings is bound.
        on_ready: called when requests are answered; only with one worker.
    """
    import structlog
    from uvicorn import Config

    from app import logs
    from app.settings import likely_typos
    from foretell.protocol import Protocol
    from foretell.server import ListenError, base_url, bind

    logs.configure(settings)
    log = structlog.stdlib.get_logger(__name__)
    for sentence in likely_typos(os.environ):
        log.warning(sentence)
    try:
        listener = listener or bind(settings.host, settings.port)
    except ListenError as error:
        log.error(str(error))
        return 1
    config = Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=listener.getsockname()[1],
        workers=settings.workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        timeout_worker_healthcheck=15,  # seconds; importing TensorFlow can hold the interpreter for a while
    )

    def ready() -> None:
        log.info(f"Foretell is running on {base_url(config.host, config.port)} (Ctrl-C ends it)")
        on_ready()

    with listener:
        if settings.workers > 1:
            log.info(f"{settings.workers} workers start on {base_url(config.host, config.port)} (Ctrl-C ends them)")
            return _run_many(config, settings, listener)
        return _run_one(config, settings, listener, ready)


def _run_one(config: Config, settings: Settings, listener: socket, on_ready: Callable[[], None]) -> int:
    from foretell.server import Server

    server = Server(config, on_ready)
    # Uvicorn handles signals while it runs, and raises them again for whoever handled them before: that is itself, too.
    with handled(server.handle_exit, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        from app.main import create_app

        config.app = lambda: create_app(settings)  # these settings, options included
        try:
            if not server.should_exit:
                server.run([listener])
        except SystemExit:  # how uvicorn reports a failed start; the log has the sentence
            return 1
    return 0


def _run_many(config: Config, settings: Settings, listener: socket) -> int:
    """Several processes; each reads these settings from the environment. SIGHUP replaces them one by one."""
    from uvicorn.config import STARTUP_FAILURE

    from app.settings import PREFIX
    from foretell.server import Supervisor

    for name, value in settings.model_dump().items():
        os.environ[PREFIX + name.upper()] = str(value)
    with tempfile.TemporaryDirectory(prefix="foretell-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read by prometheus_client in each worker
        supervisor = Supervisor(config, sockets=[listener])
        supervisor.run()
        return 1 if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0
