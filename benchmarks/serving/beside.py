"""This checkout beside another one: both services at once, loaded in turns, so that ratios hold on a noisy machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles

from benchmarks.serving.bench import Bench
from benchmarks.serving.environments import ROOT
from benchmarks.serving.measure import TURN, Plan, Turn, turn
from benchmarks.serving.systems import System, foretell
from benchmarks.serving.wrk import BenchmarkError, Load

CONNECTIONS = (1, 4, 32, 128)
#: Turns of each service and number of connections, for each repeat of the plan.
TURNS = 4


def beside(bench: Bench, other: Path, plan: Plan) -> str:
    """A table of ratios, this checkout's over that of ``other``, which serves the same model from the same stores.

    Both checkouts run in this one's environment. Raises BenchmarkError.
    """
    if not (other / "foretell").is_dir():
        raise BenchmarkError(f"{other} is no checkout of Foretell; give its folder.")
    bench.forget()
    turns: dict[int, list[tuple[Turn, Turn]]] = {}
    with ExitStack() as stack:
        mine, theirs = (stack.enter_context(bench.running(_from(place))) for place in (ROOT, other.resolve()))
        bench.warm(mine)
        for number in range(TURNS * plan.repeats):
            for connections in CONNECTIONS:
                order = (mine, theirs) if number % 2 else (theirs, mine)
                seen = {server.pid: turn(server, connections, TURN, bench.shop.users) for server in order}
                turns.setdefault(connections, []).append((seen[mine.pid], seen[theirs.pid]))
            print(f"  turn {number + 1} of {TURNS * plan.repeats}", flush=True)
    return "\n".join(_table(turns))


def _from(checkout: Path) -> System:
    system = foretell()
    name = "foretell" if checkout == ROOT else "foretell-beside"
    return replace(system, name=name, environment={**system.environment, "PYTHONPATH": str(checkout)})


def _table(turns: Mapping[int, Sequence[tuple[Turn, Turn]]]) -> Iterator[str]:
    yield "| connections | requests/s, p50/p99 in ms | of the other | requests/s over it | processor time over it |"
    yield "|---|---|---|---|---|"
    for connections, pairs in turns.items():
        sides = (_side([pair[side].load for pair in pairs]) for side in (0, 1))
        rates = [mine.load.rps / theirs.load.rps for mine, theirs in pairs]
        costs = [mine.cost / theirs.cost for mine, theirs in pairs]
        yield " | ".join([f"| {connections}", *sides, _ratio(rates), f"{_ratio(costs)} |"])
    yield ""
    yield "Medians of turns side by side; in brackets the quarters around that of a ratio."


def _side(loads: Sequence[Load]) -> str:
    rps, p50, p99 = (median(column) for column in zip(*((o.rps, o.p50_ms, o.p99_ms) for o in loads), strict=True))
    return f"{rps:,.0f} ({p50:.1f}/{p99:.1f})"


def _ratio(ratios: Sequence[float]) -> str:
    low, middle, high = quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"
