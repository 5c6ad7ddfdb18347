"""How cost grows with the work: catalogue, history, candidates, concurrency. Each curve is one figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.bench import bench
from benchmarks.serving.measure import HEADLINE, Plan
from benchmarks.serving.processes import largest_mib
from benchmarks.serving.shop import Shop, item_name
from benchmarks.serving.systems import foretell
from benchmarks.serving.wrk import wrk
from foretell.embedded import EmbeddedStores

HERE = Path(__file__).parent
CATALOGUES = (10_000, 20_000, 50_000, 100_000, 300_000, 1_000_000)
HISTORIES = (10, 50, 100, 200)
CANDIDATES = (10, 30, 100, 300, 1_000)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
#: Few users and no described catalogue: neither changes what these curves show, and both take long to load.
USERS = 200


def run(opened: EmbeddedStores, shop: Shop, plan: Plan) -> dict[str, Any]:
    """Points of each curve. Raises BenchmarkError."""
    short = plan.seconds < 5
    catalogues = CATALOGUES[:2] if short else CATALOGUES
    curves: dict[str, list[dict[str, Any]]] = {
        "catalogue": [_point(opened, Shop(n, users=USERS, described=False), plan, n) for n in catalogues],
        "history": [_point(opened, Shop(history=n, users=USERS, described=False), plan, n) for n in HISTORIES],
    }
    board = bench(Shop(users=USERS, described=False), opened)
    board.forget()
    with board.running(foretell()) as server:
        board.warm(server)
        curves["concurrency"] = [_load(server.url, n, plan, n) for n in CONNECTIONS]
        curves["candidates"] = [_load(server.url, HEADLINE, plan, n, _naming(n)) for n in CANDIDATES]
    if not short:
        draw(curves, HERE / "growth.svg")
    return curves


def _naming(count: int) -> str:
    """A body that names so many candidates and ranks them."""
    names = ",".join(f'"{item_name(number)}"' for number in range(count))
    return f'{{"user_id":"u%d","k":{min(count, 20)},"rank":"items","items":[{names}]}}'


def _point(opened: EmbeddedStores, shop: Shop, plan: Plan, x: int) -> dict[str, Any]:
    board = bench(shop, opened)
    board.forget()
    with board.running(foretell()) as server:
        board.warm(server)
        point = _load(server.url, HEADLINE, plan, x)
        return point | {
            "ready_seconds": round(server.ready_seconds, 1),
            "resident_mib_per_worker": round(largest_mib(server.pid)),
        }


def _load(url: str, connections: int, plan: Plan, x: int, *body: str) -> dict[str, Any]:
    load = wrk(url, connections, plan.seconds, USERS, *body)
    print(f"  {x:8} {load.rps:8.0f}/s   p50 {load.p50_ms:7.1f} ms   p99 {load.p99_ms:7.1f} ms", flush=True)
    return {"x": x, "rps": round(load.rps, 1), "p50_ms": load.p50_ms, "p99_ms": load.p99_ms}


def draw(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Throughput and latency of each curve, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(curves), figsize=(4 * len(curves), 3.4), layout="constrained")
    for axis, (name, points) in zip(axes, curves.items(), strict=True):
        _axis(axis, name, points)
    figure.savefig(path)
    pyplot.close(figure)


def _axis(axis: Any, name: str, points: Sequence[dict[str, Any]]) -> None:
    x = [point["x"] for point in points]
    axis.plot(x, [point["rps"] for point in points], "o-", color="#1f6f78")
    axis.set(title=name, xscale="log", xlabel=name, ylim=(0, None))
    axis.set_ylabel("requests/s", color="#1f6f78")
    right = axis.twinx()
    right.plot(x, [point["p99_ms"] for point in points], "s--", color="#c0703a")
    right.set(ylim=(0, None))
    right.set_ylabel("p99, ms", color="#c0703a")
