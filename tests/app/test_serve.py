"""``foretell serve`` as operators meet it: exit codes, one sentence, signals."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
import typer
from fastapi import FastAPI
from structlog.testing import capture_logs
from typer.testing import CliRunner

from app.settings import Settings
from foretell.address import bind
from foretell.commands.serve import run, serve
from foretell.reach import reachable
from foretell.server import Server

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
def _running(model_root: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The service over fakes in a process of its own, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.app.served", str(model_root), "0"],
        cwd=REPOSITORY,
        env=_environment(**settings),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"running on https?://127\.0\.0\.1:(\d+)", line):
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


def _listening(port: int, address: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(10)
        return probe.connect_ex((address, port)) == 0


#: An address of this machine that is not the one everybody thinks of; elsewhere than on Linux it may be none.
OTHER_LOOPBACK = "127.1.2.3"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have one loopback address only")
def test_without_keys_it_listens_on_the_loopback_address_only_and_says_so_in_a_line(model_root: Path) -> None:
    with _running(model_root, host="0.0.0.0") as (process, port):
        assert _listening(port, "127.0.0.1")
        assert not _listening(port, OTHER_LOOPBACK)
        process.terminate()


@pytest.mark.parametrize(
    ("settings", "host", "says"),
    [
        ({"host": "0.0.0.0"}, "127.0.0.1", "No keys, so Foretell listens on 127.0.0.1 and not on 0.0.0.0"),
        ({"host": "::"}, "::1", "listens on ::1 and not on ::"),
        ({"host": "shop.example"}, "127.0.0.1", "and not on shop.example"),
        ({"host": "0.0.0.0", "insecure": True}, "0.0.0.0", "whoever reaches 0.0.0.0 may do everything"),
        ({"host": "0.0.0.0", "keys": Path("keys")}, "0.0.0.0", None),
        ({"host": "127.0.0.1"}, "127.0.0.1", None),
        ({"host": "127.9.9.9"}, "127.9.9.9", None),
        ({"host": "::1"}, "::1", None),
        ({"host": "localhost"}, "localhost", None),
    ],
)
def test_who_may_reach_it_depends_on_the_keys(settings: dict[str, object], host: str, says: str | None) -> None:
    with capture_logs() as logged:
        assert reachable(Settings(**settings)).host == host  # type: ignore[arg-type]
    lines = [line["event"] for line in logged if line["log_level"] == "warning"]
    assert len(lines) == (says is not None)
    assert all(says in line for line in lines if says)


def _get(url: str, context: ssl.SSLContext | None = None) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[trustme.CA, Path, Path]:
    """An authority, and a certificate of it for 127.0.0.1, with its key."""
    folder, authority = tmp_path_factory.mktemp("tls"), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    for pem in issued.cert_chain_pems:
        pem.write_to_path(folder / "cert.pem", append=True)
    return authority, folder / "cert.pem", folder / "key.pem"


def test_with_a_certificate_it_speaks_https_and_nothing_else(
    model_root: Path, authority: tuple[trustme.CA, Path, Path]
) -> None:
    ca, cert, key = authority
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    with _running(model_root, tls_cert=str(cert), tls_key=str(key)) as (process, port):
        assert _get(f"https://127.0.0.1:{port}/health/live", trusting) == 200
        with pytest.raises((urllib.error.URLError, ConnectionError, http.client.HTTPException)):
            _get(f"http://127.0.0.1:{port}/health/live")
        process.terminate()


def test_a_certificate_that_cannot_be_used_is_one_sentence(
    authority: tuple[trustme.CA, Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, cert, _ = authority
    (tmp_path / "key.pem").write_text("no key")
    assert run(Settings(port=0, tls_cert=cert, tls_key=tmp_path / "key.pem")) == 1
    error = capfd.readouterr().err
    assert "HTTPS cannot be served with" in error
    assert "Traceback" not in error


def test_operations_listen_on_a_port_of_their_own(model_root: Path) -> None:
    with _closed_port() as free:
        pass
    with _running(model_root, ops_port=str(free)) as (process, port):
        assert _get(f"http://127.0.0.1:{free}/metrics") == 200
        assert _get(f"http://127.0.0.1:{free}/health/ready") == 200
        assert _get(f"http://127.0.0.1:{free}/models") == 404
        assert _get(f"http://127.0.0.1:{port}/metrics") == 404
        assert _get(f"http://127.0.0.1:{port}/models") == 200
        process.terminate()


def test_a_port_of_operations_that_is_taken_ends_with_1(capfd: pytest.CaptureFixture[str]) -> None:
    with bind("127.0.0.1", 0) as taken:
        taken.listen()
        assert run(Settings(port=0, ops_port=taken.getsockname()[1])) == 1
    assert "(Address already in use)" in capfd.readouterr().err
