"""What the door costs a request: ``python -m benchmarks.access``.

Asserts that a lease costs a tenth of a count in Redis for each request, and that all refusals take the same time.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from limits import parse

from app import redis
from app.access import Access
from app.errors import Forbidden, Unauthorized
from app.key_file import KeyFile
from app.keys import Scope, new_key
from app.limits import Limiter
from app.metrics import Metrics
from app.settings import Settings
from foretell.embedded import EmbeddedStores

ROUNDS = 5_000
EVERYTHING = "1000000000/minute"


async def measure(calls: dict[str, Callable[[], Awaitable[object]]]) -> dict[str, tuple[float, float]]:
    """Median and mean of each, in microseconds; in turns, so that a busy machine is busy for all of them, and in any
    order, so that none always comes after the same other."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in random.sample(list(calls.items()), len(calls)):
            start = time.perf_counter()
            await call()
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: (statistics.median(times), statistics.fmean(times)) for name, times in taken.items()}


async def main(url: str, folder: Path) -> None:
    """Measure, print, assert."""
    cache = await redis.connect(url, 10_000)
    key, line = new_key(["predict"])
    late, old = new_key(["predict"])
    lines = [line, old.model_copy(update={"expires": datetime(2020, 1, 1, tzinfo=UTC)})]
    (folder / "keys").write_text("".join(line.model_dump_json() + "\n" for line in lines))
    keys = KeyFile(folder / "keys")
    settings = Settings(keys=folder / "keys", key_limit="6000000/minute", refusal_limit=EVERYTHING)
    limiter = Limiter(cache)
    access, nobody = Access(keys, limiter, settings, Metrics()), Access(None, limiter, settings, Metrics())

    async def refused(presented: str | None, scope: Scope = "predict") -> None:
        try:
            await access.admit(None if presented is None else f"Bearer {presented}", scope, "203.0.113.7")
        except (Unauthorized, Forbidden):
            return
        raise AssertionError("let in")

    found = await measure(
        {
            "no keys": lambda: nobody.admit(None, "predict", "203.0.113.7"),
            "a key, counted by lease": lambda: access.admit(f"Bearer {key}", "predict", "203.0.113.7"),
            "refused: missing": lambda: refused(None),
            "refused: unknown": lambda: refused("ftl_00000000_" + "x" * 43),
            "refused: wrong": lambda: refused(key[:-1]),
            "refused: expired": lambda: refused(late),
            "refused: scope": lambda: refused(key, "admin"),
        }
    )
    each = parse(EVERYTHING)
    found |= await measure(
        {"a count in Redis each time": lambda: cache.ask(lambda _: limiter._shared.hit(each, "each"))}
    )
    for name, (median, mean) in found.items():
        print(f"{name:<28} median {median:8.1f} us   mean {mean:8.1f} us")
    assert 10 * found["a key, counted by lease"][1] < found["a count in Redis each time"][1]
    refusals = [median for name, (median, _) in found.items() if name.startswith("refused")]
    assert max(refusals) < 1.3 * min(refusals)
    await cache.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name, EmbeddedStores(name) as stores:
        asyncio.run(main(stores.redis_url, Path(name)))
