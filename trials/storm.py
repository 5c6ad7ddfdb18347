"""``python -m trials.storm``: clients give up at random points, and others check that every answer is theirs."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import orjson
import typer
from rich.console import Console

from trials.world import World, known_items

#: Clients at once that give up, and that check.
ABORTING, CHECKING = 24, 8
#: Requests given up for each answer checked; the service computes what nobody waits for, and could fall far behind.
RATIO = 5
#: Seconds after which a client that was to give up does so at the latest.
LONGEST = 0.03
USERS = 40

console = Console(width=160)


@dataclass(slots=True)
class Outcome:
    """Requests given up, answers checked, those that lacked the history, a sentence for each answer that was wrong."""

    aborted: int = 0
    checked: int = 0
    lacking: int = 0
    wrong: list[str] = field(default_factory=list)

    def note(self, number: int, request_id: str, status: int, header: str, got: dict[str, Any]) -> None:
        """Judge what came for a user: the answer to that request, of that user, with all of their events.

        A service that has no time left refuses (503, 504). One whose store does not answer in time names the history as
        lacking, and then says nothing of whose it is; all else must be the asker's there too.
        """
        if status in (503, 504):
            return
        provenance = got.get("provenance", {})
        lacks = "history" in provenance.get("degraded", ())
        self.lacking += lacks
        known = (status, header, got.get("request_id"), got.get("user_id"), provenance.get("history"))
        must = (200, request_id, request_id, name(number), 0 if lacks else number + 1)
        if known != must:
            self.wrong.append(f"got {known} in place of {must}")


def name(number: int) -> str:
    """A user who has ``number`` + 1 events, so that their history tells them from all others."""
    return f"storm-{number}"


async def storm(base: str, port: int, items: list[str], aborts: int, seed: int = 1) -> Outcome:
    """Give up so many requests while others are checked."""
    outcome, rng, over = Outcome(), random.Random(seed), asyncio.Event()
    async with aiohttp.ClientSession(base, headers={"Content-Type": "application/json"}) as session:
        for number in range(USERS):
            await _give_history(session, number, items)

        pace = asyncio.Semaphore(RATIO * CHECKING)

        async def abort() -> None:
            while outcome.aborted < aborts:
                outcome.aborted += 1
                await pace.acquire()
                await _give_up(port, _request(rng, items), rng)

        async def check() -> None:
            while not over.is_set():
                await _check(session, rng.randrange(USERS), f"check-{outcome.checked}", outcome)
                for _ in range(RATIO):
                    pace.release()

        async with asyncio.TaskGroup() as group:
            for _ in range(CHECKING):
                group.create_task(check())
            await asyncio.gather(*(abort() for _ in range(ABORTING)))
            over.set()
    return outcome


async def _give_history(session: aiohttp.ClientSession, number: int, items: list[str]) -> None:
    events = [
        {"event_id": f"{name(number)}-{place}", "user_id": name(number), "item_id": items[place], "type": "click"}
        for place in range(number + 1)
    ]
    async with session.post("/events", data=orjson.dumps({"events": events})) as answer:
        answer.raise_for_status()


async def _check(session: aiohttp.ClientSession, number: int, request_id: str, outcome: Outcome) -> None:
    """Ask for a user, and note what came."""
    outcome.checked += 1
    body = orjson.dumps({"user_id": name(number), "k": 5})
    async with session.post("/predict", data=body, headers={"X-Request-ID": request_id}) as answer:
        outcome.note(
            number, request_id, answer.status, answer.headers["X-Request-ID"], orjson.loads(await answer.read())
        )


def _request(rng: random.Random, items: list[str]) -> bytes:
    """A request of any kind, by a user of the checked ones; its events are somebody else's."""
    user = name(rng.randrange(USERS))
    path, body = rng.choice(
        [
            ("/predict", {"user_id": user, "k": 20}),
            ("/predict", {"user_id": user, "k": 5, "items": rng.sample(items, 20)}),
            ("/predict", {"session": [{"type": "click", "item_id": rng.choice(items)}]}),
            ("/predict/batch", {"requests": [{"user_id": name(number), "k": 3} for number in range(5)]}),
            ("/events", {"events": [_noise(rng, items)]}),
        ]
    )
    data = orjson.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _noise(rng: random.Random, items: list[str]) -> dict[str, str]:
    return {"event_id": f"noise-{rng.random()}", "user_id": "noise", "item_id": rng.choice(items), "type": "click"}


async def _give_up(port: int, request: bytes, rng: random.Random) -> None:
    """Send a part of a request, or all of it, wait a little, and leave without a goodbye."""
    part = request[: rng.randrange(1, len(request))] if rng.random() < 0.3 else request
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(part)
            await asyncio.sleep(rng.random() * LONGEST)
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)


async def run(aborts: int, folder: Path) -> tuple[Outcome, int]:
    """A storm over the real service; says what came of it, and how many tracebacks its log has."""
    async with World(folder, workers=1) as world:
        outcome = await storm(world.base, world.port, known_items(), aborts)
        return outcome, world.tracebacks()


def main(aborts: Annotated[int, typer.Option(help="Requests that are given up.")] = 20_000) -> None:
    """Give up requests at random points while others check that nobody gets another's answer."""
    folder = Path(tempfile.mkdtemp(prefix="foretell-storm-"))
    outcome, tracebacks = asyncio.run(run(aborts, folder))
    for sentence in outcome.wrong[:20]:
        console.print(sentence, markup=False)
    console.print(
        f"{outcome.aborted} requests given up, {outcome.checked} answers checked, {outcome.lacking} of them without "
        f"a history, {len(outcome.wrong)} wrong, {tracebacks} tracebacks in the log"
    )
    if outcome.wrong or tracebacks:
        console.print(f"The logs are in {folder}.")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
