"""``python -m trials.soak``: mixed load for a long time; does memory grow, do answers get slower?

The verdict rests on what comes after the warm-up. Memory: the median of its last minute against that of its first.
Times: its fifths, each by the median of its points' p99; none may be much slower than the first.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from rich.console import Console

from trials.chaos import RESULTS
from trials.load import Reply, percentile, statuses
from trials.mixed import LIFE, SHARES, Mixed
from trials.verdict import DELIBERATE
from trials.world import World, known_items

#: Minutes that do not count: caches fill, allocators warm up.
WARM_UP = 5.0
#: Most that memory may grow after them, the slowest hundredth get slower, and answers be refused, as shares.
GROWTH, SLOWER, REFUSED = 0.05, 0.5, 0.001
#: Parts of the time after them whose latencies are compared.
PARTS = 5
#: What is added up of a process's memory: its own, what it shares with its like, and what was swapped out.
HELD = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")
#: Seconds that one point of the plots stands for.
POINT = 5.0
#: Share of the capacity that is asked of the service.
SHARE = 0.4

console = Console(width=160)


@dataclass(frozen=True, slots=True)
class Point:
    """Some seconds of a soak: minutes since its begin, MiB held, milliseconds."""

    minute: float
    memory: float
    p50: float
    p99: float
    requests: int


@dataclass(frozen=True, slots=True)
class Soak:
    """What came of it; ``problems`` is empty where all is steady.

    Attributes:
        rate: requests a second, of a ``capacity``, measured before.
        memory_mib: in the first minute after the warm-up, and in the last one.
        p99_ms: of plain predictions, in each fifth of the time after the warm-up.
        degraded: answers that lacked a part.
    """

    minutes: float
    rate: float
    capacity: float
    requests: int
    statuses: dict[str, int]
    degraded: int
    memory_mib: tuple[float, float]
    growth: float
    p99_ms: list[float]
    stale: int
    problems: list[str]


async def run(
    minutes: float,
    folder: Path,
    *,
    rate: float | None = None,
    users: int = 500,
    workers: int = 2,
    point: float = POINT,
    **settings: object,
) -> tuple[Soak, list[Point]]:
    """Load a service for so long.

    Args:
        folder: for data and logs, empty.
        rate: requests a second; SHARE of the capacity, which is then measured, where left out.
        users: who ask.
        point: seconds that one point stands for.
        settings: of the service, beside its own defaults.
    """
    world = World(folder, keyed=True, retry_writes=False, workers=workers, **settings)
    async with world, Mixed(world.base, users, known_items(), 1.0, headers=world.headers) as load:
        await load.seed()
        capacity = 0.0 if rate else await load.capacity(5.0)
        load.rate = rate or max(SHARE * capacity, 10.0)
        load.replies.clear()
        end = asyncio.Event()
        running = asyncio.create_task(load.run(end))
        points, begin, replies = [], time.perf_counter(), list[Reply]()
        while (now := time.perf_counter() - begin) < 60 * minutes:
            await asyncio.sleep(point)
            new, load.replies = load.replies, []
            replies += new
            # In a thread: it takes a while, in which the load would stand still and then come at once.
            memory = await asyncio.to_thread(resident, [world.process.pid, *world.workers()])
            points.append(_point(now / 60, memory, new))
        end.set()
        await running
        wrong = load.stale + await load.settle()
    return judge(minutes, load.rate, capacity, points, replies, wrong), points


def resident(pids: Sequence[int]) -> float:
    """MiB that these processes hold and that no file backs, each page counted once. Pages of files are left out: they
    are the libraries, which weigh less as soon as any other process on the machine maps them, too."""
    texts = (Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids)
    lines = (line for text in texts for line in text.splitlines() if line.startswith(HELD))
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


def judge(
    minutes: float,
    rate: float,
    capacity: float,
    points: Sequence[Point],
    replies: Sequence[Reply],
    wrong: Sequence[str],
) -> Soak:
    """Judge what came after the warm-up, by medians, so that one slow moment of the machine is none."""
    counted = [point for point in points if point.minute >= min(WARM_UP, minutes / 3)]
    edge = max(min(int(60 / POINT), len(counted) // PARTS), 1)
    memory = median(point.memory for point in counted[:edge]), median(point.memory for point in counted[-edge:])
    growth = memory[1] / memory[0] - 1
    bounds = [round(len(counted) * part / PARTS) for part in range(PARTS + 1)]
    p99 = [median(point.p99 for point in counted[i : max(j, i + 1)]) for i, j in pairwise(bounds) if i < len(counted)]
    problems = [*wrong[:3], *_improper(replies)]
    if growth > GROWTH:
        problems.append(f"memory grew by {growth:.1%}")
    if max(p99) > (1 + SLOWER) * p99[0]:
        problems.append(f"p99 went from {p99[0]:.0f} to {max(p99):.0f} ms")
    return Soak(
        minutes=minutes,
        rate=round(rate, 1),
        capacity=round(capacity, 1),
        requests=len(replies),
        statuses=statuses(replies),
        degraded=sum(bool(reply.degraded) for reply in replies),
        memory_mib=memory,
        growth=growth,
        p99_ms=p99,
        stale=len(wrong),
        problems=problems,
    )


def _improper(replies: Sequence[Reply]) -> list[str]:
    """Answers that nobody meant, and refusals, where they are more than a few."""
    failed = [reply for reply in replies if reply.status not in DELIBERATE]
    refused = [reply for reply in replies if reply.status in DELIBERATE and reply.status != 200]
    problems = [f"answers that nobody meant: {statuses(failed)}"] if failed else []
    if len(refused) > REFUSED * len(replies):
        problems.append(f"{len(refused)} of {len(replies)} requests were refused")
    return problems


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


def markdown(soak: Soak, machine: str) -> str:
    """The results for the repository."""
    share = f", {SHARE:.0%} of the capacity of {soak.capacity:.0f}" if soak.capacity else ""
    answers = ", ".join(f"{count} {name}" for name, count in soak.statuses.items())
    return (
        f"# The soak\n\n`make soak`, {machine}: {soak.minutes:g} minutes of {soak.rate:g} requests a second{share}:\n"
        f"{SHARES}.\nUsers leave after {LIFE} events, and others come. "
        f"The first {min(WARM_UP, soak.minutes / 3):g} minutes do not count.\n\n"
        "| | |\n|---|---|\n"
        f"| answers | {answers}; {soak.degraded} degraded, {soak.stale} stale |\n"
        f"| memory that no file backs, first and last minute | {soak.memory_mib[0]:.0f}, {soak.memory_mib[1]:.0f} MiB: "
        f"{soak.growth:+.1%}, at most {GROWTH:+.0%} |\n"
        f"| p99 of `POST /predict`, by fifths | {', '.join(f'{p99:.1f}' for p99 in soak.p99_ms)} ms, none more than "
        f"{SLOWER:.0%} above the first |\n"
        f"| verdict | {'; '.join(soak.problems) or 'ok'} |\n\n![memory and latency](soak.png)\n"
    )


def main(
    minutes: Annotated[float, typer.Option(help="How long.")] = 30.0,
    rate: Annotated[float | None, typer.Option(help="Requests a second; 40% of the capacity, if left out.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the plot and the figures.")] = RESULTS,
) -> None:
    """Load the service for a long time and see whether it stays as it was."""
    folder = Path(tempfile.mkdtemp(prefix="foretell-soak-"))
    soak, points = asyncio.run(run(minutes, folder, rate=rate))
    out.mkdir(parents=True, exist_ok=True)
    plot(points, out / "soak.png")
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, shared with the load"
    figures = asdict(soak) | {"machine": machine, "points": [asdict(point) for point in points]}
    (out / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    (out / "soak.md").write_text(markdown(soak, machine))
    console.print(soak)
    if soak.problems:
        console.print(f"The logs are in {folder}.")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
