"""The supervisor of workers: whose socket is closed when, and who is taken out of what."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
import uvicorn
from uvicorn.supervisors import multiprocess
from uvicorn.supervisors.multiprocess import SIGNALS

from foretell.address import bind
from foretell.server import Supervisor


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
