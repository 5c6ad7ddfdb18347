"""The address: taken before anything slow begins, silent until the model is warm, named as a browser needs it."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import uvicorn
from uvicorn.supervisors import multiprocess
from uvicorn.supervisors.multiprocess import SIGNALS

from foretell.address import ListenError, base_url, bind
from foretell.server import Supervisor


def test_a_bound_socket_has_a_port_and_answers_nobody_yet() -> None:
    with bind("127.0.0.1", 0) as bound, socket.socket() as client:
        assert client.connect_ex(bound.getsockname()) != 0


def test_a_taken_port_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as caught:
            bind("127.0.0.1", port)
    assert str(caught.value) == (
        f"Foretell cannot listen on 127.0.0.1:{port} (Address already in use): stop what listens there, or choose "
        "another address with --host and --port (FORETELL_HOST, FORETELL_PORT)."
    )


def test_an_address_of_another_machine_is_one_sentence() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:0 \(.+\)"):  # reserved for documentation
        bind("192.0.2.1", 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("shop.example", "http://shop.example:80"),
    ],
)
def test_the_url_is_one_that_a_browser_on_this_machine_can_open(host: str, url: str) -> None:
    assert base_url(host, 80) == url


def _supervisor(*sockets: socket.socket) -> Supervisor:
    """One that leaves the signals of this process alone."""
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    supervisor = Supervisor(uvicorn.Config("nothing"), list(sockets))
    for number, handler in earlier.items():
        signal.signal(number, handler)
    return supervisor


def test_a_supervisor_that_ends_lets_go_of_its_socket() -> None:
    """Else connections would queue where nobody takes them any more, and break when it ends (found by trials.chaos)."""
    with bind("127.0.0.1", 0) as bound, socket.socket() as client:
        bound.listen()
        supervisor = _supervisor(bound)
        address = bound.getsockname()
        supervisor.terminate_all()
        assert client.connect_ex(address) != 0


class Worker:
    """Stands in for a process of uvicorn."""

    exitcode = -9

    def __init__(self, pid: int, alive: bool) -> None:
        self.pid, self.alive = pid, alive

    def is_alive(self, timeout: float) -> bool:
        return self.alive

    def kill(self) -> None:
        """It is dead."""

    join = start = kill


def test_a_dead_worker_is_replaced_and_its_gauges_are_not_summed_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waited in a worker that was killed would be summed for ever, and its alert never end."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(multiprocess, "Process", lambda *_: Worker(13, True))
    for name in ("gauge_livesum_11.db", "gauge_livesum_12.db", "counter_12.db"):
        (tmp_path / name).touch()
    supervisor = _supervisor()
    supervisor.processes = [Worker(11, True), Worker(12, False)]  # type: ignore[list-item]
    supervisor.keep_subprocess_alive()
    assert [process.pid for process in supervisor.processes] == [11, 13]
    assert {file.name for file in tmp_path.iterdir()} == {"gauge_livesum_11.db", "counter_12.db"}
