"""What metrics cost: the service with them and without, taking turns."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.serving.bench import bench
from benchmarks.serving.measure import HEADLINE, Plan
from benchmarks.serving.shop import Shop
from benchmarks.serving.systems import without_metrics
from benchmarks.serving.wrk import wrk
from foretell.embedded import EmbeddedStores


def run(opened: EmbeddedStores, shop: Shop, plan: Plan) -> dict[str, Any]:
    """Throughput with and without metrics, and the share they cost. Raises BenchmarkError."""
    board, rates = bench(shop, opened), {True: list[float](), False: list[float]()}
    shared = board.folder / "metrics"
    shared.mkdir(exist_ok=True)
    for repeat in range(plan.repeats):
        for measured in (True, False) if repeat % 2 else (False, True):
            board.forget()
            for old in shared.iterdir():
                old.unlink()
            system = without_metrics(measured)
            system = type(system)(  # several workers share their metrics, as under `foretell serve`
                system.name, system.command, {**system.environment, "PROMETHEUS_MULTIPROC_DIR": str(shared)}
            )
            with board.running(system) as server:
                board.warm(server)
                rates[measured].append(wrk(server.url, HEADLINE, plan.seconds, shop.users).rps)
                print(f"  {system.name}: {rates[measured][-1]:.0f}/s", flush=True)
    on, off = median(rates[True]), median(rates[False])
    return {"on_rps": round(on, 1), "off_rps": round(off, 1), "cost": round(1 - on / off, 4)}
