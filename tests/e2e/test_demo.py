"""What ``make run`` does: it becomes ready, its printed requests work, its data survive, no process is left behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tests.e2e.conftest import ROOT


class Curl(NamedTuple):
    """A printed curl line, understood."""

    url: str
    body: Any


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


@contextmanager
def demo(folder: Path, port: int, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``foretell demo``, ready; gives the process and what it printed until then."""
    env = env | {"FORETELL_PORT": str(port), "FORETELL_DATA_DIR": str(folder), "PYTHONUNBUFFERED": "1"}
    command = [str(Path(sys.executable).with_name("foretell")), "demo"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
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
    tmp_path: Path, port: int, clean_env: dict[str, str]
) -> None:
    folder = tmp_path / "data"
    with demo(folder, port, clean_env) as (process, said):
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
        assert second["predictions"] == first["predictions"]

        assert send(events).json()["accepted"] == 1
        third = send(predict).json()
        assert third["provenance"]["state"] == "computed"
        assert third["provenance"]["history"] == first["provenance"]["history"] + 1
        assert send(events).json()["duplicates"] == 1

        text = send(metrics).text
        for stage in ("cache", "history", "encode", "retrieve", "score", "rank"):
            assert f'foretell_stage_seconds_count{{stage="{stage}"}}' in text
        for outcome in ("hit", "miss", "stale"):
            assert re.search(rf'foretell_state_lookups_total{{outcome="{outcome}"}} [1-9]', text)
        assert 'foretell_events_total{outcome="accepted"} 1.0' in text
        assert re.search(r'foretell_model_info{device="[^"]+",.*kind="behaviour"', text)
        stop(process, signal.SIGTERM)

    with demo(folder, port, clean_env) as (process, said):
        assert "Making a synthetic shop" not in said
        again = send(understand(said)[0]).json()
        assert again["provenance"]["history"] == third["provenance"]["history"]
        stop(process, signal.SIGINT)
