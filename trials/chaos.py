"""``python -m trials.chaos``: one fault after another under steady load, and a table of what became of the answers."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from trials.faults import FAULTS, Fault
from trials.load import Load
from trials.verdict import RECOVERY_SECONDS, Times, Verdict, judge
from trials.world import DATABASE, ROOT, World, known_items

RESULTS = ROOT / "trials" / "results"
#: Settings of the service under trial: budgets that +500 ms exceeds.
SETTINGS: dict[str, Any] = {
    "redis_timeout_ms": 150,
    "mongo_timeout_ms": 450,
    "deadline_ms": 1000,
    "receive_seconds": 5.0,
}
#: Seconds of load before a fault and after it: where times are judged, and where they are not.
AROUND = {True: (2.0, 6.0), False: (0.5, 1.5)}

console = Console(width=160)


async def run(
    faults: Sequence[Fault],
    seconds: float,
    folder: Path,
    *,
    users: int = 300,
    strict: bool = True,
    rate: float | None = None,
    workers: int = 2,
) -> dict[str, Any]:
    """Run faults one after another.

    Args:
        folder: for data and logs, empty.
        seconds: that each fault lasts.
        users: who ask.
        strict: judge times by the clock as well.
        rate: requests a second; half of the capacity, which is then measured, where left out.
    """
    world = World(folder, keyed=True, workers=workers, **SETTINGS)
    async with world, Load(world.base, users, known_items(), 1.0, headers=world.headers) as load:
        load.welcome = lambda: world.ready
        await load.seed(2)
        capacity = None if rate else await load.capacity(5.0)
        load.rate = rate or max((capacity or 0.0) / 2, 10.0)
        console.print(f"{load.rate:.0f} requests a second; logs in {folder}")
        verdicts = []
        for fault in faults:
            verdict = await _try(world, load, fault, seconds, strict)
            console.print(f"{fault.title}: {'; '.join(verdict.problems) or 'ok'}")
            verdicts.append(verdict)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, shared with the load",
        "settings": SETTINGS | {"workers": workers},
        "capacity_rps": capacity and round(capacity),
        "rate_rps": round(load.rate),
        "seconds": seconds,
        "strict": strict,
        "faults": [verdict.to_json() for verdict in verdicts],
    }


async def _try(world: World, load: Load, fault: Fault, seconds: float, strict: bool) -> Verdict:
    load.replies.clear()
    load.stale.clear()
    end, tracebacks = asyncio.Event(), world.tracebacks()
    running = asyncio.create_task(load.run(end))
    before, after = AROUND[strict]
    await asyncio.sleep(before)
    began = time.perf_counter()
    async with fault.begin(world):
        await asyncio.sleep(seconds)
        ending = time.perf_counter()
    ended = time.perf_counter()
    await asyncio.sleep(after)
    end.set()
    await running
    replies, stale = list(load.replies), list(load.stale)
    if pending := await world.pending_invalidations(RECOVERY_SECONDS):
        stale.append(f"{pending} users' states are not invalidated after {RECOVERY_SECONDS:.0f} s")
    stale += await load.settle()
    acknowledged = {event for user in load.users for event in user.acknowledged}
    return judge(
        fault,
        replies,
        Times(began, ending, ended),
        SETTINGS["deadline_ms"] / 1000 if strict else None,
        acknowledged=len(acknowledged),
        lost=len(acknowledged - _stored(world)),
        stale=stale,
        tracebacks=world.tracebacks() - tracebacks,
    )


def _stored(world: World) -> set[str]:
    with world.mongo_client() as client:
        return {str(event["_id"]) for event in client[DATABASE].events.find({}, {"_id": True})}


def table(results: dict[str, Any]) -> Table:
    """The results for people."""
    drawn = Table("fault", "requests", "answers", "degraded", "p50 ms", "p99 ms", "normal after s", "lost", "stale", "")
    for row in results["faults"]:
        drawn.add_row(*_cells(row), "[green]ok" if row["passed"] else "[red]" + "; ".join(row["problems"]))
    return drawn


def markdown(results: dict[str, Any]) -> str:
    """The same for the repository."""
    capacity = f", half of the capacity of {results['capacity_rps']}" if results["capacity_rps"] else ""
    lines = [
        "# The fault matrix",
        "",
        f"`make chaos`, {results['date'][:10]}, {results['machine']}: {results['rate_rps']} requests a second"
        f"{capacity};",
        f"each fault lasts {results['seconds']:.0f} s. Settings of the service: "
        + ", ".join(f"`{name}` {value:g}" for name, value in results["settings"].items())
        + ".",
        "",
        "| fault | requests | answers | degraded | p50 ms | p99 ms | normal after s | lost | stale | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in results["faults"]:
        verdict = "ok" if row["passed"] else "; ".join(row["problems"])
        lines.append("| " + " | ".join([*_cells(row), verdict]) + " |")
    return "\n".join(lines) + "\n"


def _cells(row: dict[str, Any]) -> list[str]:
    title = next(fault.title for fault in FAULTS if fault.name == row["fault"])
    answers = ", ".join(f"{count} {name}" for name, count in row["statuses"].items())
    degraded = ", ".join(f"{count} {name}" for name, count in row["degraded"].items())
    numbers = (row[name] for name in ("p50_ms", "p99_ms", "recovered_s", "lost", "stale"))
    return [title, str(row["requests"]), answers, degraded, *(f"{number:g}" for number in numbers)]


def main(
    only: Annotated[list[str] | None, typer.Option(help="Names of faults; all, if left out.")] = None,
    seconds: Annotated[float, typer.Option(help="How long each fault lasts.")] = 10.0,
    rate: Annotated[float | None, typer.Option(help="Requests a second; half of the capacity, if left out.")] = None,
    strict: Annotated[bool, typer.Option(help="Judge times by the clock as well.")] = True,
    write: Annotated[bool, typer.Option(help="Write trials/results/chaos.json and .md.")] = False,
) -> None:
    """Break the service's world in every way of the matrix, under load."""
    unknown = set(only or ()) - {fault.name for fault in FAULTS}
    if unknown:
        raise typer.BadParameter(f"no such fault: {', '.join(sorted(unknown))}")
    folder = Path(tempfile.mkdtemp(prefix="foretell-chaos-"))
    chosen = [fault for fault in FAULTS if not only or fault.name in only]
    results = asyncio.run(run(chosen, seconds, folder, rate=rate, strict=strict))
    console.print(table(results))
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "chaos.json").write_text(json.dumps(results, indent=2) + "\n")
        (RESULTS / "chaos.md").write_text(markdown(results))
    if not all(row["passed"] for row in results["faults"]):
        console.print(f"The logs are in {folder}.")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
