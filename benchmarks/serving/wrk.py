"""Closed-loop load: ``wrk`` with one thread, each connection sends its next request when it has its answer."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("users.lua")
#: The question of the benchmark; %d is the user.
BODY = '{"user_id":"u%d","k":20}'


class BenchmarkError(Exception):
    """The benchmark cannot be run. The message is one sentence: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw; ``errors`` are answers that did not come, ``refused`` those that were not 2xx or 3xx."""

    rps: float
    p50_ms: float
    p99_ms: float
    errors: int
    refused: int
    requests: int


def check_wrk() -> None:
    """Raises BenchmarkError where wrk is missing."""
    if shutil.which("wrk") is None:
        raise BenchmarkError("The load generator wrk is missing; install it (Debian: apt-get install wrk).")


def wrk(url: str, connections: int, seconds: float, users: int, body: str = BODY) -> Load:
    """Load ``url``. Raises BenchmarkError where wrk fails."""
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(SCRIPT)]
    command = ["wrk", *options, url, "--", str(users), body]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.strip():
        raise BenchmarkError(f"wrk failed on {url}: {(done.stderr or done.stdout).strip()[-300:]}")
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    rps = (seen["requests"] - seen["refused"]) / seen["seconds"]
    return Load(rps, seen["p50_ms"], seen["p99_ms"], seen["errors"], seen["refused"], seen["requests"])
