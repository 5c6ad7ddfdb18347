"""Open-loop load: requests leave when they are due, answered or not, as those of strangers do.

``wrk`` carries them, by the script beside this file, for a generator in Python took a quarter of what two cores can do
from the service that it was to measure. A latency counts from the moment a request was due, so a generator that falls
behind hides nothing.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.wrk import BODY, BenchmarkError

SCRIPT = Path(__file__).with_name("openloop.lua")
#: Connections; while all of them wait for answers, requests leave late.
CONNECTIONS = 1_500
#: The load lasts so many seconds longer than what is recorded, so that the last answers come under load as well.
BEYOND = 1.0


@dataclass(frozen=True)
class Answers:
    """What was offered in how many ``seconds``, and what came of it.

    Attributes:
        rows: of each answer when the request was due (seconds since the start), its milliseconds, its status.
        lost: connections that failed.
    """

    seconds: float
    offered: int
    rows: list[tuple[float, float, int]]
    lost: int = 0

    @property
    def unanswered(self) -> int:
        """Requests without an answer, those that were never sent among them."""
        return self.offered - len(self.rows)

    def counts(self) -> dict[str, int]:
        """Answers by status."""
        return {str(status): count for status, count in sorted(Counter(row[2] for row in self.rows).items())}

    def rate(self, status: int) -> float:
        """Answers of a status in each second of the load."""
        return sum(row[2] == status for row in self.rows) / self.seconds

    def percentile(self, percent: float, status: int) -> float | None:
        """Milliseconds within which so many percent of a status came; None without any."""
        times = sorted(row[1] for row in self.rows if row[2] == status)
        return round(times[min(int(len(times) * percent / 100), len(times) - 1)], 2) if times else None


def offer(url: str, rate: float, seconds: float, users: int, body: str = BODY) -> Answers:
    """Offer ``rate`` requests a second for so long, whatever becomes of them. Raises BenchmarkError where wrk fails."""
    options = ["-t1", f"-c{CONNECTIONS}", f"-d{round(seconds + BEYOND)}s", "--timeout", "10s", "-s", str(SCRIPT)]
    with tempfile.NamedTemporaryFile("r", suffix=".txt") as answers:
        arguments = [str(users), body, str(rate), str(seconds), answers.name]
        done = subprocess.run(["wrk", *options, url, "--", *arguments], capture_output=True, text=True, check=False)
        if done.returncode or not done.stdout.strip():
            raise BenchmarkError(f"wrk failed on {url}: {(done.stderr or done.stdout).strip()[-300:]}")
        rows = [(float(due), float(ms), int(status)) for due, ms, status in map(str.split, answers)]
    lost = json.loads(done.stdout.strip().splitlines()[-1])["lost"]
    return Answers(seconds, round(rate * seconds), rows, lost)
