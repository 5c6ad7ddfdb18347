"""What ``make run`` does: it becomes ready, its printed requests work, its data survive, no process is left behind."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import httpx
import pytest

from tests.e2e.conftest import ROOT


class Curl(NamedTuple):
    """A printed curl line, understood."""

    url: str
    body: Any


@contextmanager
def in_a_terminal(arguments: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """A program that leads the session of a terminal; gives the process and the terminal's other end."""
    window, terminal = os.openpty()
    take = partial(fcntl.ioctl, terminal, termios.TIOCSCTTY, 0)
    arguments |= dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
    process = subprocess.Popen(**arguments, start_new_session=True, preexec_fn=take)
    os.close(terminal)
    try:
        with open(window, "r+b", buffering=0) as end:
            yield process, end
    finally:
        process.kill()
        process.wait()


def read_until(end: IO[bytes], text: bytes) -> bytes:
    """What appears in the terminal up to a text."""
    said = b""
    while text not in said:
        said += end.read(4096)
    return said


def read_rest(end: IO[bytes]) -> bytes:
    """What appears until the last program has left the terminal."""
    said = b""
    with suppress(OSError):  # EIO is how Linux says that
        while more := end.read(4096):
            said += more
    return said


def understand(text: str) -> list[Curl]:
    """The curl lines of a text, shell substitutions replaced by a constant."""
    joined = re.sub(r"\\\n\s*", "", text)
    curls = []
    for line in joined.splitlines():
        if line.startswith("curl "):
            words = shlex.split(line.split(" | ")[0].replace("'$(date +%s)'", "demo-test"))
            body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
            curls.append(Curl(next(word for word in words if word.startswith("http")), body))
    return curls


def send(curl: Curl) -> httpx.Response:
    answer = httpx.get(curl.url) if curl.body is None else httpx.post(curl.url, json=curl.body)
    assert answer.status_code == 200, answer.text
    return answer


def command(folder: Path, env: dict[str, str], port: int = 0) -> dict[str, Any]:
    """``foretell demo``, as arguments of subprocess."""
    env = env | {"FORETELL_PORT": str(port), "FORETELL_DATA_DIR": str(folder), "PYTHONUNBUFFERED": "1"}
    return {"args": [str(Path(sys.executable).with_name("foretell")), "demo"], "cwd": ROOT, "env": env}


@contextmanager
def demo(folder: Path, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``foretell demo`` on a free port, ready; gives the process and what it printed until then."""
    process = subprocess.Popen(**command(folder, env), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = ""
    try:
        for line in process.stdout:
            said += line
            if line.strip().endswith("/docs"):
                break
        else:
            raise AssertionError(f"it ended before it was ready: {said}")
        yield process, said
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def refused(folder: Path, env: dict[str, str], port: int) -> str:
    """What a ``foretell demo`` says that must not start."""
    arguments = command(folder, env, port)
    done: subprocess.CompletedProcess[str] = subprocess.run(
        **arguments, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def children(pid: int) -> list[int]:
    """The processes that a process started and that still run."""
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def stop(process: subprocess.Popen[str], number: int) -> None:
    """End it with a signal and see that neither it nor any child of it is left."""
    started = children(process.pid)
    assert len(started) >= 2  # Valkey and SecantusDB
    process.send_signal(number)
    assert process.wait(30) == 0
    assert not [child for child in started if os.path.exists(f"/proc/{child}")]


def test_the_printed_requests_work_and_a_second_run_finds_the_first_ones_data(
    tmp_path: Path, clean_env: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    with demo(folder, clean_env) as (process, said):
        predict, events, metrics = understand(said)

        first = send(predict).json()
        assert first["provenance"]["state"] == "computed"
        assert first["provenance"]["history"] >= 30
        assert len(first["predictions"]) == 2
        for prediction in first["predictions"]:
            assert all(0 < p < 1 for p in prediction["probabilities"].values())
            assert {"click", "purchase"} <= set(prediction["probabilities"])
            assert prediction["expected"]["amount"] > 0
        scores = [item["score"] for item in first["recommendations"]]
        assert len(scores) == predict.body["k"]
        assert scores == sorted(scores, reverse=True)

        second = send(predict).json()
        assert second["provenance"]["state"] == "cached"
        for before, after in zip(first["predictions"], second["predictions"], strict=True):
            assert after["item_id"] == before["item_id"]
            assert after["probabilities"] == pytest.approx(before["probabilities"], rel=0.01)  # a moment later

        assert send(events).json()["accepted"] == 1
        port = httpx.URL(events.url).port or 0
        assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in refused(tmp_path / "b", clean_env, port)
        assert f"in use by another Foretell (process {process.pid};" in refused(folder, clean_env, 0)

        third = send(predict).json()
        assert third["provenance"]["state"] == "computed"
        assert third["provenance"]["history"] == first["provenance"]["history"] + 1
        assert send(events).json()["duplicates"] == 1

        text = send(metrics).text
        for stage in ("cache", "history", "encode", "recommend", "rank"):
            assert f'foretell_stage_seconds_count{{stage="{stage}"}}' in text
        for outcome in ("hit", "miss", "stale"):
            assert re.search(rf'foretell_state_lookups_total{{outcome="{outcome}"}} [1-9]', text)
        assert 'foretell_events_total{outcome="accepted"} 1.0' in text
        assert re.search(r'foretell_model_info{device="[^"]+",.*kind="behaviour"', text)
        stop(process, signal.SIGTERM)

    with demo(folder, clean_env) as (process, said):
        assert "Making a synthetic shop" not in said
        again = send(understand(said)[0]).json()
        assert again["provenance"]["history"] == third["provenance"]["history"]
        stop(process, signal.SIGINT)


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        (b"Making a synthetic shop", signal.SIGTERM, 143),
        (b"load items", signal.SIGINT, 130),
        (b"load events", signal.SIGHUP, 129),
    ],
)
def test_a_signal_before_it_serves_leaves_no_process_and_no_traceback(
    tmp_path: Path, clean_env: dict[str, str], moment: bytes, number: int, code: int
) -> None:
    with in_a_terminal(command(tmp_path, clean_env | {"TERM": "xterm"})) as (process, end):
        said = read_until(end, moment)
        started = children(process.pid)
        assert len(started) == 2
        if number == signal.SIGINT:
            end.write(b"\x03")  # Ctrl-C
        else:
            process.send_signal(number)
        said += read_rest(end)
        assert process.wait(30) == code
    assert not [child for child in started if os.path.exists(f"/proc/{child}")]
    assert b"Traceback" not in said
