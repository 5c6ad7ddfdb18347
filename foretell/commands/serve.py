"""``foretell serve``: the online service, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
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
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain for HTTPS [FORETELL_TLS_CERT].")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key [FORETELL_TLS_KEY].")] = None,
) -> None:
    """Serve predictions over HTTP.

    Everything is set by FORETELL_* variables (see the README); the options here win over them.
    """
    from app.settings import SettingsError, load_settings

    try:
        settings = load_settings(host=host, port=port, workers=workers, tls_cert=tls_cert, tls_key=tls_key)
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

    from app import logs
    from app.settings import likely_typos
    from foretell.address import ListenError, base_url
    from foretell.reach import CertificateError, check_certificate, reachable

    logs.configure(settings)
    log = structlog.stdlib.get_logger(__name__)
    for sentence in likely_typos(os.environ):
        log.warning(sentence)
    with ExitStack() as stack:
        try:
            settings = reachable(settings)
            check_certificate(settings)
            settings, sockets = _bind(settings, listener, stack)
        except (CertificateError, ListenError) as error:
            log.error(str(error))
            return 1
        config = _config(settings, sockets[0].getsockname()[1])
        base = base_url(config.host, config.port, "https" if settings.tls_cert else "http")

        def ready() -> None:
            log.info(f"Foretell is running on {base} (Ctrl-C ends it)")
            on_ready()

        if settings.workers > 1:
            log.info(f"{settings.workers} workers start on {base} (Ctrl-C ends them)")
            return _run_many(config, settings, sockets)
        return _run_one(config, settings, sockets, ready)


def _bind(settings: Settings, listener: socket | None, stack: ExitStack) -> tuple[Settings, list[socket]]:
    """The public socket and, where there is one, that of operations, with its port in the settings; the stack closes
    them. Raises ListenError."""
    from foretell.address import bind

    sockets = [stack.enter_context(listener or bind(settings.host, settings.port))]
    if settings.ops_port is not None:
        sockets.append(stack.enter_context(bind(settings.host, settings.ops_port)))
        settings = settings.model_copy(update={"ops_port": sockets[1].getsockname()[1]})
    return settings, sockets


def _config(settings: Settings, port: int) -> Config:
    """What uvicorn needs to know."""
    from uvicorn import Config

    from foretell.protocol import Protocol

    several = settings.workers > 1
    return Config(
        "app.main:create_app",
        factory=True,
        host=settings.host,
        port=port,
        workers=settings.workers,
        loop="foretell.balance:Loop" if several else "uvloop",
        http="foretell.balance:BalancedProtocol" if several else Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_worker_healthcheck=15,  # seconds; importing TensorFlow can hold the interpreter for a while
    )


def _run_one(config: Config, settings: Settings, sockets: Sequence[socket], on_ready: Callable[[], None]) -> int:
    from foretell.server import Server

    server = Server(config, on_ready)
    # Uvicorn handles signals while it runs, and raises them again for whoever handled them before: that is itself, too.
    with handled(server.handle_exit, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        from app.main import create_app

        config.app = lambda: create_app(settings)  # these settings, options included
        try:
            if not server.should_exit:
                server.run(list(sockets))
        except SystemExit:  # how uvicorn reports a failed start; the log has the sentence
            return 1
    return 0


def _run_many(config: Config, settings: Settings, sockets: Sequence[socket]) -> int:
    """Several processes; each reads these settings from the environment. SIGHUP replaces them one by one."""
    import structlog
    from pydantic import SecretStr

    from app.settings import PREFIX
    from foretell.apart import ApartSupervisor
    from foretell.balance import FOLDER
    from foretell.model_process import ModelProcessError, apart
    from foretell.server import Supervisor

    log = structlog.stdlib.get_logger(__name__)

    for name, value in settings.model_dump().items():
        if value is not None and not isinstance(value, SecretStr):  # no option sets a secret: it is there already
            os.environ[PREFIX + name.upper()] = str(value)
    with ExitStack() as stack:
        for variable, what in (
            ("PROMETHEUS_MULTIPROC_DIR", "metrics"),
            (FOLDER, "connections"),
        ):  # the workers read them
            os.environ[variable] = stack.enter_context(TemporaryDirectory(prefix=f"foretell-{what}-"))
        try:
            supervisor = ApartSupervisor(config, sockets) if apart(settings) else Supervisor(config, list(sockets))
        except ModelProcessError as error:
            log.error(str(error))
            return 1
        supervisor.run()
        return 1 if supervisor.failed else 0
