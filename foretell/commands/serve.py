"""``foretell serve``: the online service, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from foretell.console import USAGE, fail

if TYPE_CHECKING:
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


def run(settings: Settings) -> int:
    """Serve until a signal comes; returns the exit code: 0 after a graceful stop, 1 when the start failed.

    SIGTERM and SIGINT end the service, not the process: the caller can clean up after it.
    """
    import structlog
    from uvicorn import Config

    from app import logs
    from app.settings import likely_typos

    logs.configure(settings)
    for sentence in likely_typos(os.environ):
        structlog.stdlib.get_logger(__name__).warning(sentence)
    config = Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        timeout_worker_healthcheck=15,  # seconds; importing TensorFlow can hold the interpreter for a while
    )
    with _signals_end_only_the_server():
        return _run_one(config, settings) if settings.workers == 1 else _run_many(config, settings)


def _run_one(config: Config, settings: Settings) -> int:
    from uvicorn import Server

    from app.main import create_app

    config.app = lambda: create_app(settings)  # these settings, options included
    server = Server(config)
    try:
        server.run()
    except SystemExit:  # how uvicorn reports a failed start; the log has the sentence
        return 1
    return 0


def _run_many(config: Config, settings: Settings) -> int:
    """Several processes; each reads these settings from the environment."""
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    from app.settings import PREFIX

    for name, value in settings.model_dump().items():
        os.environ[PREFIX + name.upper()] = str(value)
    with tempfile.TemporaryDirectory(prefix="foretell-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read by prometheus_client in each worker
        try:
            supervisor = Multiprocess(config, sockets=[config.bind_socket()])
        except SystemExit:
            return 1
        supervisor.run()
        return 1 if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes) else 0


@contextmanager
def _signals_end_only_the_server() -> Iterator[None]:
    """After its graceful stop uvicorn raises the signal again, for whoever handled it before: let that be nobody."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
