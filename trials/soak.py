"""``python -m trials.soak``: mixed load for a long time; does memory grow, do answers get slower?"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from trials.chaos import RESULTS
from trials.load import Load, Reply, percentile, statuses
from trials.world import World, known_items

#: Minutes that do not count: caches fill, allocators warm up.
WARM_UP = 5.0
#: Most that memory may grow after them, and the slowest hundredth get slower, as shares.
GROWTH, SLOWER = 0.05, 0.5
#: Seconds that one point of the plots stands for.
POINT = 5.0
#: Share of the capacity that is asked of the service.
SHARE = 0.4

console = Console(width=160)


@dataclass(frozen=True, slots=True)
class Point:
    """Some seconds of a soak: minutes since its begin, MiB resident, milliseconds."""

    minute: float
    memory: float
    p50: float
    p99: float
    requests: int


@dataclass(frozen=True, slots=True)
class Soak:
    """What came of it; ``problems`` is empty where all is steady."""

    minutes: float
    rate: float
    requests: int
    statuses: dict[str, int]
    memory_mib: tuple[float, float]
    growth: float
    p99_ms: tuple[float, float]
    stale: int
    problems: list[str]


async def run(minutes: float, folder: Path) -> tuple[Soak, list[Point]]:
    """Load a service with two workers for so long."""
    async with World(folder) as world, Load(world.base, 500, known_items(), 1.0) as load:
        await load.seed(2)
        load.rate = max(SHARE * await load.capacity(5.0), 10.0)
        load.replies.clear()
        end = asyncio.Event()
        running = asyncio.create_task(load.run(end))
        points, begin, replies = [], time.perf_counter(), list[Reply]()
        while (now := time.perf_counter() - begin) < 60 * minutes:
            await asyncio.sleep(POINT)
            new, load.replies = load.replies, []
            replies += new
            points.append(_point(now / 60, resident([world.process.pid, *world.workers()]), new))
        end.set()
        await running
        wrong = load.stale + await load.settle()
    return judge(minutes, load.rate, points, replies, wrong), points


def resident(pids: Sequence[int]) -> float:
    """MiB that these processes hold, each page counted once: half of a page that two share is each one's."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    lines = (line for text in texts for line in text.splitlines() if line.startswith("Pss:"))
    return sum(int(line.split()[1]) for line in lines) / 1024


def _point(minute: float, memory: float, replies: Sequence[Reply]) -> Point:
    seconds = [reply.seconds for reply in replies if reply.route == "predict"]
    return Point(
        round(minute, 3),
        round(memory, 1),
        round(1000 * percentile(seconds, 0.5), 2),
        round(1000 * percentile(seconds, 0.99), 2),
        len(replies),
    )


def judge(minutes: float, rate: float, points: Sequence[Point], replies: Sequence[Reply], wrong: Sequence[str]) -> Soak:
    """Compare the first fifth of what counts with the last: medians, so that one slow moment of the machine is none."""
    counted = [point for point in points if point.minute >= min(WARM_UP, minutes / 3)]
    fifth = max(len(counted) // 5, 1)
    first, last = counted[:fifth], counted[-fifth:]
    memory = median(point.memory for point in first), median(point.memory for point in last)
    p99 = median(point.p99 for point in first), median(point.p99 for point in last)
    growth = memory[1] / memory[0] - 1
    failed = [reply for reply in replies if reply.status != 200]
    problems = list(wrong[:3])
    if growth > GROWTH:
        problems.append(f"memory grew by {growth:.1%}")
    if p99[1] > (1 + SLOWER) * p99[0]:
        problems.append(f"p99 went from {p99[0]:.0f} to {p99[1]:.0f} ms")
    if failed:
        problems.append(f"{len(failed)} requests failed")
    return Soak(minutes, round(rate, 1), len(replies), statuses(replies), memory, growth, p99, len(wrong), problems)


def plot(points: Sequence[Point], path: Path) -> None:
    """Memory above, latency below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    minutes = [point.minute for point in points]
    above.plot(minutes, [point.memory for point in points], color="#3b5bdb")
    above.set_ylim(bottom=0)
    above.set_ylabel("memory of the service, MiB")
    for name, colour in (("p99", "#e8590c"), ("p50", "#2b8a3e")):
        below.plot(minutes, [getattr(point, name) for point in points], color=colour, label=name)
    below.set_yscale("log")
    below.set_ylabel("POST /predict, ms")
    below.set_xlabel("minutes")
    below.legend()
    figure.savefig(path, dpi=110)


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 30.0,
    out: Annotated[Path, typer.Option(help="Folder for the plot and the figures.")] = RESULTS,
) -> None:
    """Load the service for a long time and see whether it stays as it was."""
    folder = Path(tempfile.mkdtemp(prefix="foretell-soak-"))
    soak, points = asyncio.run(run(minutes, folder))
    out.mkdir(parents=True, exist_ok=True)
    plot(points, out / "soak.png")
    figures = asdict(soak) | {"cores": os.cpu_count(), "points": [asdict(point) for point in points]}
    (out / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    console.print(soak)
    if soak.problems:
        console.print(f"The logs are in {folder}.")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
