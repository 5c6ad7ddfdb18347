"""``foretell serve`` as operators meet it: exit codes, one sentence, signals."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from fastapi import FastAPI
from typer.testing import CliRunner

from app.settings import Settings
from foretell.commands.serve import run, serve
from foretell.server import Server, bind

REPOSITORY = Path(__file__).parents[2]


def _environment(**settings: str) -> dict[str, str]:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
    return bare | {f"FORETELL_{name.upper()}": value for name, value in settings.items()}


@contextmanager
def _closed_port() -> Iterator[int]:
    """A port nobody answers on: bound, so that nobody else takes it, but not listening."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def _run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=REPOSITORY,
        env=_environment(**settings),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


COMMAND = "import typer; from foretell.commands.serve import serve; typer.run(serve)"


def test_a_bad_setting_ends_with_2_and_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORETELL_DEVICE", "tpu")
    app = typer.Typer()
    app.command()(serve)
    result = CliRunner().invoke(app, ["--port", "99999"])
    assert result.exit_code == 2
    assert "FORETELL_DEVICE cannot be used" in result.stderr
    assert "FORETELL_PORT cannot be used" in result.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_unreachable_mongo_ends_with_1_and_one_sentence(workers: str) -> None:
    with _closed_port() as port:
        done = _run(
            "-c",
            COMMAND,
            mongo_url=f"mongodb://127.0.0.1:{port}",
            mongo_timeout_ms="100",
            startup_seconds="0.5",
            port="0",
            workers=workers,
        )
    assert done.returncode == 1, done.stderr
    assert re.search(r"MongoDB does not answer at 127\.0\.0\.1:\d+ within 100 ms", done.stderr)
    assert "Traceback" not in done.stderr


@contextmanager
def _running(model_root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service over fakes in a process of its own, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.app.served", str(model_root), "0"],
        cwd=REPOSITORY,
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                yield process, int(found[1])
                return
        raise AssertionError("the service did not start")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_gracefully_with_0(model_root: Path, number: signal.Signals) -> None:
    with _running(model_root) as (process, port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as response:
            assert response.status == 200
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0, log
        assert "Application shutdown complete" in log
        assert "Traceback" not in log


def test_a_signal_that_comes_while_modules_are_imported_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        """Stands in for app.main."""

        @property
        def create_app(self) -> None:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setitem(sys.modules, "app.main", Slow())
    monkeypatch.setattr(Server, "run", lambda *_: pytest.fail("it started nevertheless"))
    assert run(Settings(port=0)) == 0


def test_it_says_that_it_is_ready_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.main.create_app", lambda _: FastAPI())
    said: list[str] = []

    def connect_and_end() -> None:
        with socket.create_connection(address, timeout=10):
            said.append("ready")
        signal.raise_signal(signal.SIGINT)

    with bind("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        assert run(Settings(), listener, connect_and_end) == 0
    assert said == ["ready"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the second bind fails already")
def test_a_port_lost_while_the_model_was_loaded_ends_with_1_and_is_never_said_to_be_ready(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("app.main.create_app", lambda _: FastAPI())
    with bind("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        with bind("127.0.0.1", port) as listener:
            other.listen()
            assert run(Settings(port=port), listener, lambda: pytest.fail("said that it is ready")) == 1
    error = capfd.readouterr().err
    assert f"Foretell cannot listen on 127.0.0.1:{port} (Address already in use)" in error
    assert "Traceback" not in error


def test_a_port_that_is_taken_ends_with_1(model_root: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _run("-m", "tests.app.served", str(model_root), str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "(Address already in use)" in done.stderr
