"""A flame graph of the warm path: ``make bench-serving-profile``.

The graph shows who holds the interpreter, which is what Python costs; TensorFlow computes without it. So what each
thread of the worker costs the processor is printed beside it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from benchmarks.serving.bench import FOLDER, Bench
from benchmarks.serving.environments import ROOT, environment
from benchmarks.serving.measure import HEADLINE, Plan
from benchmarks.serving.processes import cpu_seconds, thread_seconds, tree
from benchmarks.serving.servers import Running
from benchmarks.serving.systems import foretell
from benchmarks.serving.wrk import wrk

RATE = 250
#: The same samples, one stack a line, for whoever wants to count.
FOLDED = FOLDER / "profile.txt"


def profile(bench: Bench, path: Path, plan: Plan) -> None:
    """Sample the busiest worker under warm load; writes an SVG, and FOLDED. Raises BenchmarkError."""
    spy, seconds = environment("profile") / "py-spy", max(2, round(plan.seconds))
    bench.forget()
    with bench.running(foretell()) as server:
        bench.warm(server)
        worker = str(_busiest(bench, server))
        before = thread_seconds(int(worker))
        load = wrk(server.url, HEADLINE, seconds, bench.shop.users)
        _tell(before, thread_seconds(int(worker)), load.rps)
        for kind, out in (("flamegraph", path), ("raw", FOLDED)):
            options = ["--rate", str(RATE), "--duration", str(seconds), "--gil", "--format", kind, "--output", str(out)]
            spying = subprocess.Popen([str(spy), "record", "--pid", worker, *options], stdout=subprocess.DEVNULL)
            wrk(server.url, HEADLINE, seconds + 1, bench.shop.users)
            spying.wait()
    path.write_text(path.read_text(encoding="utf-8").replace(f"{ROOT}/", ""), encoding="utf-8")
    print(f"{path} and {FOLDED}")


def _busiest(bench: Bench, server: Running) -> int:
    before = {pid: cpu_seconds(pid) for pid in tree(server.pid)}
    wrk(server.url, HEADLINE, 2, bench.shop.users)
    spent = {pid: cpu_seconds(pid) - before.get(pid, 0.0) for pid in tree(server.pid)[1:] or [server.pid]}
    return max(spent, key=lambda pid: spent[pid])


def _tell(before: Mapping[str, float], after: Mapping[str, float], rps: float) -> None:
    spent = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}
    total = sum(spent.values())
    print(f"{rps:.0f} requests/s; processor time of one worker, by thread:")
    for name, seconds in sorted(spent.items(), key=lambda row: -row[1]):
        if seconds >= 0.01 * total:
            print(f"  {name:24} {seconds:6.2f} s {seconds / total:6.1%}")
