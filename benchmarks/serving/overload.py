"""Three times the capacity for a minute: who is answered, how soon, and who is sent away, how soon."""

from __future__ import annotations

from typing import Any

from benchmarks.serving.bench import bench
from benchmarks.serving.measure import Plan
from benchmarks.serving.openloop import Answers, offer
from benchmarks.serving.shop import Shop
from benchmarks.serving.systems import foretell
from benchmarks.serving.wrk import wrk
from foretell.embedded import EmbeddedStores

TIMES = 3.0
SECONDS = 60.0
#: Load before and after, as a share of the capacity, and for how long.
NORMAL, NORMAL_SECONDS = 0.5, 5.0
#: After this long, the load after must look like the load before.
RECOVERY_SECONDS = 2.0


def run(opened: EmbeddedStores, shop: Shop, plan: Plan) -> dict[str, Any]:
    """Goodput and latencies under overload, and how long until all is normal again: of ``repeats`` rounds that of the
    middle in goodput (of an even number the worse of the two), and the goodputs of all. Raises BenchmarkError."""
    board = bench(shop, opened)
    board.forget()
    with board.running(foretell()) as server:
        board.warm(server)
        rounds = sorted((_round(server.url, shop, plan) for _ in range(plan.repeats)), key=lambda one: one["goodput"])
    return {**rounds[(len(rounds) - 1) // 2], "goodputs": [one["goodput"] for one in rounds]}


def _round(url: str, shop: Shop, plan: Plan) -> dict[str, Any]:
    """One overload. The capacity is the mean of what the service does just before and just after it: on a machine with
    neighbours it drifts within a minute."""
    seconds = SECONDS if plan.seconds >= 10 else 3 * plan.seconds
    capacity = wrk(url, 128, plan.seconds, shop.users).rps
    before = offer(url, NORMAL * capacity, NORMAL_SECONDS, shop.users)
    heavy = offer(url, TIMES * capacity, seconds, shop.users)
    after = offer(url, NORMAL * capacity, NORMAL_SECONDS, shop.users)
    capacity = (capacity + wrk(url, 128, plan.seconds, shop.users).rps) / 2
    return {
        "capacity_rps": round(capacity, 1),
        "offered_rps": round(heavy.offered / seconds, 1),
        "goodput": round(heavy.rate(200) / capacity, 3),
        "statuses": heavy.counts(),
        "unsent": heavy.unsent,
        "accepted_p50_ms": heavy.percentile(50, 200),
        "accepted_p99_ms": heavy.percentile(99, 200),
        "refused_p50_ms": heavy.percentile(50, 503),
        "refused_p99_ms": heavy.percentile(99, 503),
        "normal_p99_ms": before.percentile(99, 200),
        "recovery_seconds": recovery(before, after),
    }


def recovery(before: Answers, after: Answers) -> float | None:
    """Seconds from the end of the overload to the last answer that was slower than before it, or an error; None where
    it never became normal."""
    normal = 2 * (before.percentile(99, 200) or 0.0)
    late = [at + ms / 1000 for at, ms, status in after.rows if status != 200 or ms > normal]
    allowed = len(after.rows) // 100  # one in a hundred is slower by the very meaning of p99
    late = sorted(late)[: max(len(late) - allowed, 0)]
    last = late[-1] if late else 0.0
    return round(last, 2) if last < NORMAL_SECONDS - 1 else None
