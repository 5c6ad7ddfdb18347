"""``python -m trials.guesses``: does a refusal's time tell what is wrong with a key, and how far do guesses come?"""

from __future__ import annotations

import asyncio
import random
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Annotated

import aiohttp
import typer
from rich.console import Console

from app.keys import KeyLine, new_key
from trials.load import percentile
from trials.world import World

#: How much slower than the quickest kind of refusal the slowest may be, by medians.
DIFFERENCE = 0.25
#: Refusals that one address is told so in a minute: FORETELL_REFUSAL_LIMIT of the service as it is.
TOLD = 20
#: Connections that guess at once, and seconds between two requests of somebody with a good key.
GUESSING, GOOD_SECONDS = 16, 0.05

console = Console(width=160)


@dataclass(slots=True)
class Outcome:
    """What came back.

    Attributes:
        medians_ms: of each kind of refusal.
        guesses: how often each status came.
        seconds: that the guesses took.
        good: how often each status came to the good key meanwhile, and after how many seconds.
    """

    medians_ms: dict[str, float] = field(default_factory=dict)
    guesses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    good: list[tuple[int, float]] = field(default_factory=list)

    def problems(self, *, strict: bool = True) -> list[str]:
        """What is not as it must be; times count where ``strict``."""
        found = []
        quickest, slowest = min(self.medians_ms.values()), max(self.medians_ms.values())
        if strict and slowest > (1 + DIFFERENCE) * quickest:
            found.append(f"refusals take {quickest:.2f} to {slowest:.2f} ms")
        most = TOLD * (
            2 + int(self.seconds / 60)
        )  # a window may have begun before, and one more during the last minute
        if self.guesses[401] > most or set(self.guesses) - {401, 429}:
            found.append(f"guesses were answered {dict(self.guesses)}, with at most {most} times 401")
        if {status for status, _ in self.good} != {200}:
            found.append(f"the good key was answered {dict(Counter(status for status, _ in self.good))}")
        return found


def keys(folder: Path) -> dict[str, str]:
    """Write a file of keys; gives one of each kind that is refused, and ``good``."""
    good, first = new_key(["predict"])
    late, second = new_key(["predict"], expires=datetime(2020, 1, 1, tzinfo=UTC))
    scope, third = new_key(["ingest"])
    _write(folder / "keys", first, second, third)
    # Of the same length; the first half is a key's public id.
    wrong = f"ftl_{first.id}_{secrets.token_urlsafe(32)}"
    unknown = f"ftl_00000000_{secrets.token_urlsafe(32)}"
    return {"good": good, "missing": "", "unknown": unknown, "wrong": wrong, "expired": late, "under-scoped": scope}


def _write(path: Path, *lines: KeyLine) -> None:
    path.write_text("".join(f"{line.model_dump_json()}\n" for line in lines))


async def _ask(session: aiohttp.ClientSession, key: str) -> tuple[int, float]:
    """Status and seconds of GET /models; a 429 must say when to come again."""
    begin = time.perf_counter()
    async with session.get("/models", headers={"Authorization": f"Bearer {key}"} if key else {}) as answer:
        await answer.read()
        status = answer.status
        if status == 429 and "Retry-After" not in answer.headers:
            status = 0
    return status, time.perf_counter() - begin


async def times(base: str, kinds: Mapping[str, str], rounds: int) -> dict[str, float]:
    """Milliseconds that each kind of refusal takes over HTTP, medians; in turns, in an order that changes. Every few
    rounds come from another address of this machine (Linux has many), before the limit of one is reached."""
    rng, names = random.Random(1), [name for name in kinds if name != "good"]
    taken: dict[str, list[float]] = {name: [] for name in names}
    few = TOLD // len(names)
    for number in range(-(-rounds // few)):
        connector = aiohttp.TCPConnector(local_addr=(f"127.1.{number // 250}.{number % 250 + 1}", 0))
        async with aiohttp.ClientSession(base, connector=connector) as session:
            for name in [name for _ in range(few) for name in rng.sample(names, len(names))]:
                status, seconds = await _ask(session, kinds[name])
                if status != (403 if name == "under-scoped" else 401):
                    raise RuntimeError(f"A key that is {name} got {status}.")
                taken[name].append(1000 * seconds)
    return {name: round(median(values), 3) for name, values in taken.items()}


async def guess(base: str, good: str, guesses: int, outcome: Outcome) -> None:
    """Guess so often, from one address, half of the time at the id of a key that exists, while its owner works."""
    over, left = asyncio.Event(), iter(range(guesses))

    async def guesser() -> None:
        for number in left:
            name = good.split("_")[1] if number % 2 else secrets.token_hex(4)
            status, _ = await _ask(session, f"ftl_{name}_{secrets.token_urlsafe(32)}")
            outcome.guesses[status] += 1

    async def owner() -> None:
        while not over.is_set():
            outcome.good.append(await _ask(session, good))
            await asyncio.sleep(GOOD_SECONDS)

    async with aiohttp.ClientSession(base) as session, asyncio.TaskGroup() as group:
        group.create_task(owner())
        begin = time.perf_counter()
        await asyncio.gather(*(guesser() for _ in range(GUESSING)))
        outcome.seconds = time.perf_counter() - begin
        over.set()


async def run(guesses: int, rounds: int, folder: Path, workers: int = 2) -> tuple[Outcome, int]:
    """Both questions to one service, and how many tracebacks its log has."""
    kinds, outcome = keys(folder), Outcome()
    # Without XLA the model is ready sooner; nobody asks it anything here.
    async with World(folder, workers=workers, keys=folder / "keys", xla=False) as world:
        outcome.medians_ms = await times(world.base, kinds, rounds)
        await guess(world.base, kinds["good"], guesses, outcome)
        return outcome, world.tracebacks()


def main(
    guesses: Annotated[int, typer.Option(help="Keys that are guessed.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="Refusals of each kind that are timed.")] = 2000,
) -> None:
    """Guess keys, and time what refusals take."""
    folder = Path(tempfile.mkdtemp(prefix="foretell-guesses-"))
    outcome, tracebacks = asyncio.run(run(guesses, rounds, folder))
    problems = outcome.problems() + ([f"{tracebacks} tracebacks in the log"] if tracebacks else [])
    console.print("refused in ms, medians: " + ", ".join(f"{name} {ms:.2f}" for name, ms in outcome.medians_ms.items()))
    p99 = 1000 * percentile([seconds for _, seconds in outcome.good], 0.99)
    told = ", ".join(f"{count} times {status}" for status, count in sorted(outcome.guesses.items()))
    console.print(f"{guesses} guesses in {outcome.seconds:.0f} s: {told}")
    console.print(f"the good key beside them: {len(outcome.good)} requests, p99 {p99:.1f} ms")
    console.print("; ".join(problems) or "ok", markup=False)
    if problems:
        console.print(f"The logs are in {folder}.")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
