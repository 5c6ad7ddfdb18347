"""What metrics cost: one service under one load, with them and without in turns."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from typing import Any

from benchmarks.serving.bench import Bench, bench
from benchmarks.serving.measure import HEADLINE, Plan
from benchmarks.serving.shop import Shop
from benchmarks.serving.systems import switched
from benchmarks.serving.unmeasured import Switch
from benchmarks.serving.wrk import wrk
from foretell.embedded import EmbeddedStores

#: Seconds of a turn: so short that the machine is the same machine in two of them, and so is the load: a new one would
#: spread its connections over the workers in another way.
TURN = 1.0


def run(opened: EmbeddedStores, shop: Shop, plan: Plan) -> dict[str, Any]:
    """Throughput with and without metrics, the median of the shares that they cost in a pair of turns, and the quarters
    around it. Raises BenchmarkError."""
    board = bench(shop, opened)
    board.forget()
    shared = board.folder / "metrics"  # several workers share their metrics, as under `foretell serve`
    shared.mkdir(exist_ok=True)
    for old in shared.iterdir():
        old.unlink()
    switch = board.folder / "switch"
    Switch.turn(switch, True)
    turns: list[dict[bool, float]] = []
    with board.running(switched(switch, shared)) as server, ThreadPoolExecutor(1) as executor:
        board.warm(server)
        pairs = max(2, round(2 * plan.repeats * plan.seconds / TURN))
        load = executor.submit(wrk, server.url, HEADLINE, 2 * TURN * (pairs + 2), shop.users)
        time.sleep(2 * TURN)
        for pair in range(pairs):
            rates = {}
            for on in (True, False) if pair % 2 else (False, True):
                Switch.turn(switch, on)
                rates[on] = _rate(board)
            turns.append(rates)
        load.result()
    low, cost, high = quantiles([1 - rates[True] / rates[False] for rates in turns], n=4)
    return {
        "on_rps": round(median(rates[True] for rates in turns), 1),
        "off_rps": round(median(rates[False] for rates in turns), 1),
        "cost": round(cost, 4),
        "quarters": [round(low, 4), round(high, 4)],
        "pairs": len(turns),
    }


def _rate(board: Bench) -> float:
    """Requests a second, by the states that are read: the service, whose metrics may be off, cannot say."""
    first, began = _reads(board), time.perf_counter()
    time.sleep(TURN)
    return (_reads(board) - first) / (time.perf_counter() - began)


def _reads(board: Bench) -> int:
    return int(board.redis.info("commandstats")["cmdstat_hmget"]["calls"])
