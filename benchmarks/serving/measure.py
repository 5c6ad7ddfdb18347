"""The main run: the limit, Foretell warm and cold, and the peers, all in one, so that ratios hold on any machine."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.serving.bench import Bench
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import awake, cpu_seconds, halt, largest_mib, resume
from benchmarks.serving.servers import Running, get, post
from benchmarks.serving.systems import System, bare, foretell
from benchmarks.serving.wrk import BODY, BenchmarkError, Load, wrk

#: Connections at which the headline figures are taken, and those at which a peer is tuned.
HEADLINE = 32
TUNED_AT = (32, 128)
#: Seconds of a turn of one system among the others, and of load before it: batches and clients find their step.
TURN, SETTLING = 3.0, 1.0
#: A server is at rest that takes less than this share of a core, as it is looked at so many seconds apart; nobody is
#: waited for longer than that.
QUIET, LOOK, LONGEST_REST = 0.1, 0.25, 10.0
#: (rows of a batch, XLA) of the model alone; the best counts.
LOOPS = ((8, False), (32, False), (32, True))


@dataclass(frozen=True, slots=True)
class Plan:
    """How thoroughly: seconds and repeats of a cell, which are cut into turns, and the connections."""

    seconds: float = 10.0
    repeats: int = 3
    connections: Sequence[int] = (1, 32, 128, 256)


@dataclass(frozen=True, slots=True)
class Turn:
    """A load, and what it cost the service: processor milliseconds a request."""

    load: Load
    cost: float


@dataclass
class Seen:
    """What was measured, by system and connections, one entry a repeat; costs in processor milliseconds a request."""

    loads: dict[str, dict[int, list[Load]]] = field(default_factory=dict)
    model: list[float] = field(default_factory=list)
    cost: dict[str, list[float]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    chosen: dict[str, System] = field(default_factory=dict)

    def add(self, system: str, connections: int, load: Load) -> None:
        """Note a load, and say it."""
        self.loads.setdefault(system, {}).setdefault(connections, []).append(load)
        trouble = f", {load.errors} errors, {load.refused} refused" if load.errors or load.refused else ""
        print(
            f"  {system:14} {connections:4} connections {load.rps:8.0f}/s   "
            f"p50 {load.p50_ms:7.1f} ms   p99 {load.p99_ms:7.1f} ms{trouble}",
            flush=True,
        )


def measure(bench: Bench, plan: Plan, variants: Mapping[str, Sequence[System]]) -> Seen:
    """Everything, ``repeats`` times over. Raises BenchmarkError."""
    seen = Seen()
    for repeat in range(plan.repeats):
        print(f"repeat {repeat + 1} of {plan.repeats}", flush=True)
        _side_by_side(bench, plan, variants, seen)
        _cold(bench, plan, seen)
        seen.model.append(_model_rps(bench, plan.seconds, seen))
    return seen


def _side_by_side(bench: Bench, plan: Plan, variants: Mapping[str, Sequence[System]], seen: Seen) -> None:
    """Foretell, its peers and bare HTTP, all started at once and loaded in short turns: what the machine's neighbours
    do within a minute then befalls them all alike. Who is not loaded stands still. Raises BenchmarkError."""
    bench.forget()
    with ExitStack() as stack:
        warm = stack.enter_context(bench.running(foretell()))
        bench.warm(warm)
        bench.answer.write_bytes(post(warm.url, BODY % 1) or b"{}")
        for name, systems in variants.items():
            if name not in seen.chosen:
                seen.chosen[name] = systems[0] if len(systems) == 1 else _tuned(bench, plan, systems)
        servers = {"warm": (warm, BODY)}
        for name, system in seen.chosen.items():
            servers[name] = stack.enter_context(bench.running(system)), system.body
        servers["http"] = stack.enter_context(bench.running(bare())), BODY
        for server, body in servers.values():
            wrk(server.url, 8, 2, bench.shop.users, body)  # the first requests of a server are slow
            _rest(server)
            stack.callback(resume, server.pid)  # before it is closed
            halt(server.pid)
        turns = max(1, round(plan.seconds / TURN))
        seen.facts["method"] = (
            f"medians of {plan.repeats * turns} turns; all systems were started at once, and stood still but for the "
            "one whose turn it was"
        )
        for connections in plan.connections:
            for number in range(turns):
                for name, (server, body) in list(servers.items())[:: -1 if number % 2 else 1]:
                    with awake(server.pid):
                        one = turn(server, connections, min(plan.seconds, TURN), bench.shop.users, body)
                        _rest(server)
                    seen.add(name, connections, one.load)
                    if name == "warm" and connections == HEADLINE:
                        seen.cost.setdefault("warm", []).append(one.cost)
        seen.facts |= {
            "ready_seconds": round(warm.ready_seconds, 1),
            "resident_mib_per_worker": round(largest_mib(warm.pid)),
            "redis_bytes_per_user": round(bench.bytes_per_user()),
        }


def turn(server: Running, connections: int, seconds: float, users: int, body: str = BODY) -> Turn:
    """One turn of one system."""
    wrk(server.url, connections, SETTLING, users, body)
    before = cpu_seconds(server.pid)
    load = wrk(server.url, connections, seconds, users, body)
    return Turn(load, 1000 * (cpu_seconds(server.pid) - before) / max(load.requests, 1))


def _rest(server: Running) -> None:
    """Wait until a server has done what its clients had asked for, who have gone: it would be in the next one's way."""
    until = time.monotonic() + LONGEST_REST
    spent = -math.inf
    while (now := cpu_seconds(server.pid)) - spent > QUIET * LOOK and time.monotonic() < until:
        spent = now
        time.sleep(LOOK)


def _cold(bench: Bench, plan: Plan, seen: Seen) -> None:
    """States live for a second here, and each user is asked for less often: every request reads and encodes."""
    bench.forget()
    with bench.running(foretell(state_ttl_seconds=1)) as server:
        wrk(server.url, 8, 2, bench.shop.users)
        mongo, hits = bench.mongo_pid(), _lookups(server)
        before, theirs = cpu_seconds(server.pid), cpu_seconds(mongo)
        load = wrk(server.url, HEADLINE, plan.seconds, bench.shop.users)
        spent, mongo_spent = cpu_seconds(server.pid) - before, cpu_seconds(mongo) - theirs
        seen.add("cold", HEADLINE, load)
        seen.cost.setdefault("cold", []).append(1000 * spent / max(load.requests, 1))
        seen.cost.setdefault("cold, MongoDB", []).append(1000 * mongo_spent / max(load.requests, 1))
        now = _lookups(server)
        share = (now.get("hit", 0) - hits.get("hit", 0)) / max(sum(now.values()) - sum(hits.values()), 1)
        seen.facts["cold_hit_share"] = round(share, 4)


def _lookups(server: Running) -> dict[str, float]:
    """Lookups of states so far, by outcome."""
    text = get(server.base + "/metrics").decode()
    found = re.findall(r'^foretell_state_lookups_total\{outcome="(\w+)"\} (\S+)', text, re.MULTILINE)
    return {outcome: float(count) for outcome, count in found}


def _tuned(bench: Bench, plan: Plan, systems: Sequence[System]) -> System:
    """The variant with the best geometric mean of throughput; one that does not run is out."""
    scores: dict[int, float] = {}
    for place, system in enumerate(systems):
        try:
            with bench.running(system) as server:
                wrk(server.url, 8, 2, bench.shop.users, system.body)
                rates = [wrk(server.url, n, min(plan.seconds, 4), bench.shop.users, system.body) for n in TUNED_AT]
        except BenchmarkError as error:
            print(f"  {system.name} ({system.settings}): {error}", flush=True)
            continue
        scores[place] = rates[0].rps * rates[1].rps
        print(f"  tuning {system.name} ({system.settings}): {rates[0].rps:.0f}/s, {rates[1].rps:.0f}/s", flush=True)
    if not scores:
        raise BenchmarkError(f"No variant of {systems[0].name} runs; see its log in .foretell/bench.")
    return systems[max(scores, key=lambda place: scores[place])]


def _model_rps(bench: Bench, seconds: float, seen: Seen) -> float:
    """Rows a second of the model alone on two cores: a process pinned to each, added up; the best of LOOPS."""
    best = 0.0
    for batch, xla in LOOPS:
        command = [sys.executable, "-m", "benchmarks.serving.limit", str(bench.artifact.path)]
        command += [str(min(seconds, 5.0)), str(batch), str(int(xla))]
        runs = [
            subprocess.Popen([*command, str(core)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for core in (0, -1)
        ]
        rows = sum(json.loads(run.communicate()[0].strip().splitlines()[-1]) for run in runs)
        print(f"  the model alone, batches of {batch}{' under XLA' if xla else ''}: {rows:.0f}/s", flush=True)
        if rows > best:
            best, seen.facts["model_loop"] = rows, f"batches of {batch}{', XLA' if xla else ''}"
    return best


def cell(loads: Sequence[Load]) -> dict[str, Any]:
    """Medians over the repeats, and the spread of the throughput."""
    rates = [load.rps for load in loads]
    return {
        "rps": round(median(rates), 1),
        "rps_spread": [round(min(rates), 1), round(max(rates), 1)],
        "p50_ms": round(median(load.p50_ms for load in loads), 2),
        "p99_ms": round(median(load.p99_ms for load in loads), 2),
        "errors": sum(load.errors for load in loads),
        "refused": sum(load.refused for load in loads),
    }


def results(seen: Seen) -> dict[str, Any]:
    """The object of results.json."""
    detail = {name: {str(n): cell(loads) for n, loads in by.items()} for name, by in seen.loads.items()}
    head = {name: by[str(HEADLINE)] for name, by in detail.items()}
    model, http = median(seen.model), head["http"]["rps"]
    cost = {name: round(median(values), 3) for name, values in seen.cost.items()}
    found = {
        "limit": {
            "model_rps": round(model, 1),
            "http_rps": http,
            "composite_rps": round(1 / (1 / model + 1 / http), 1),
        },
        "foretell": {name: head[name] for name in ("warm", "cold")},
        "peers": {name: {**head[name], "settings": system.settings} for name, system in seen.chosen.items()},
        "cpu_ms_per_request": cost,
        "facts": seen.facts,
        "by_connections": detail,
    }
    return found | {"ratios": ratios(found, seen)}


def ratios(found: Mapping[str, Any], seen: Seen) -> dict[str, float]:
    """The bars of issue 4 as ratios of this run; those without their cells are left out.

    Beside another system: the median of the ratios of two turns that followed each other.
    """
    warm, loads = found["by_connections"]["warm"], seen.loads
    ratio = {
        "warm_over_limit": warm["32"]["rps"] / found["limit"]["composite_rps"],
        "p99_over_p50": warm["32"]["p99_ms"] / warm["32"]["p50_ms"],
        "cold_over_warm_cost": found["cpu_ms_per_request"]["cold"] / found["cpu_ms_per_request"]["warm"],
    }
    for at in (32, 128):
        if found["peers"] and at in loads["warm"]:
            pairs = (zip(loads["warm"][at], loads[name][at], strict=True) for name in found["peers"])
            ratio[f"warm_over_best_peer_at_{at}"] = min(
                median(mine.rps / theirs.rps for mine, theirs in peer) for peer in pairs
            )
    if "256" in warm:
        ratio["warm_256_over_32"] = warm["256"]["rps"] / warm["32"]["rps"]
    if "1" in warm and "fastapi" in loads:
        ratio["p50_over_fastapi_at_1"] = median(
            mine.p50_ms / theirs.p50_ms for mine, theirs in zip(loads["warm"][1], loads["fastapi"][1], strict=True)
        )
    return {name: round(value, 3) for name, value in ratio.items()}
