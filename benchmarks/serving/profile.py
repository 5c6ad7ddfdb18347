"""A flame graph of the warm path: ``make bench-serving-profile``."""

from __future__ import annotations

import subprocess
from pathlib import Path

from benchmarks.serving.bench import FOLDER, Bench
from benchmarks.serving.environments import environment
from benchmarks.serving.measure import HEADLINE, Plan
from benchmarks.serving.processes import cpu_seconds, tree
from benchmarks.serving.systems import foretell
from benchmarks.serving.wrk import wrk

RATE = 250
#: The same samples, one stack a line, for whoever wants to count.
FOLDED = FOLDER / "profile.txt"


def profile(bench: Bench, path: Path, plan: Plan) -> None:
    """Sample the busiest worker under warm load; writes an SVG, and FOLDED."""
    spy = environment("profile") / "py-spy"
    seconds = max(2, round(plan.seconds))
    bench.forget()
    with bench.running(foretell()) as server:
        bench.warm(server)
        before = {pid: cpu_seconds(pid) for pid in tree(server.pid)}
        wrk(server.url, HEADLINE, 2, bench.shop.users)
        spent = {pid: cpu_seconds(pid) - before.get(pid, 0.0) for pid in tree(server.pid)[1:] or [server.pid]}
        worker = max(spent, key=lambda pid: spent[pid])
        for kind, out in (("flamegraph", path), ("raw", FOLDED)):
            command = [str(spy), "record", "--pid", str(worker), "--rate", str(RATE), "--duration", str(seconds)]
            command += ["--threads", "--format", kind, "--output", str(out)]
            spying = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wrk(server.url, HEADLINE, seconds + 1, bench.shop.users)
            spying.wait()
    print(f"{path} and {FOLDED}")
