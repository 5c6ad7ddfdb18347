"""results.md: the table people read, made of results.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

TITLES = {
    "http": "HTTP + one Redis read + JSON, no model (bare ASGI, 2 workers)",
    "warm": "**Foretell, warm**",
    "cold": "Foretell, cold",
    "fastapi": "plain FastAPI",
    "litserve": "LitServe",
    "bentoml": "BentoML",
}
#: What issue 4 asks of each ratio.
BARS = {
    "warm_over_best_peer_at_32": "at least 3",
    "warm_over_best_peer_at_128": "at least 4",
    "warm_over_limit": "at least 0.5",
    "p99_over_p50": "at most 3",
    "p50_over_fastapi_at_1": "at most 0.7",
    "warm_256_over_32": "at least 1",
    "cold_over_warm_cost": "at most 3",
}


def markdown(found: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = ["# Speed of serving", "", f"`make bench-serving`; {found['machine']}.", ""]
    if "by_connections" in found:
        lines += [
            f"Measured on {found['dates']['comparison']}.",
            "",
            *_table(found),
            "",
            *_limit(found),
            "",
            *_ratios(found),
            "",
        ]
    for name, section in (("overload", _overload), ("instrumentation", _instrumentation), ("growth", _growth)):
        if name in found:
            lines += [f"Measured on {found['dates'][name]}.", "", *section(found[name]), ""]
    return "\n".join(lines)


def _table(found: Mapping[str, Any]) -> Iterator[str]:
    detail = found["by_connections"]
    columns = sorted({int(n) for by in detail.values() for n in by})
    yield f"Requests/s, and p50/p99 in ms, by connections: {found['facts']['method']} (the spread is in results.json)."
    yield ""
    yield "| | " + " | ".join(str(n) for n in columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for name, by in detail.items():
        cells = [_cell(by[str(n)]) if str(n) in by else "" for n in columns]
        yield f"| {TITLES.get(name, name)} | " + " | ".join(cells) + " |"
    for name, peer in found["peers"].items():
        yield f"\n{TITLES.get(name, name)}: the best variant was {peer['settings']}."


def _cell(cell: Mapping[str, Any]) -> str:
    trouble = f" ({cell['errors'] + cell['refused']} errors)" if cell["errors"] or cell["refused"] else ""
    return f"{cell['rps']:,.0f} ({cell['p50_ms']:.1f}/{cell['p99_ms']:.1f}){trouble}"


def _limit(found: Mapping[str, Any]) -> Iterator[str]:
    limit, facts, cost = found["limit"], found["facts"], found["cpu_ms_per_request"]
    yield (
        f"The model alone: {limit['model_rps']:,.0f}/s (a process with one thread on each of two cores, added up; "
        f"{facts['model_loop']}). Bare HTTP: {limit['http_rps']:,.0f}/s. "
        f"Composite limit 1/(1/model + 1/HTTP): {limit['composite_rps']:,.0f}/s."
    )
    yield ""
    yield (
        f"Processor time of the service a request: {cost['warm']} ms warm, {cost['cold']} ms cold "
        f"(MongoDB's own {cost['cold, MongoDB']} ms not counted; {facts['cold_hit_share']:.1%} of the lookups hit)."
    )
    yield ""
    yield (
        f"Ready after {facts['ready_seconds']} s; {facts['resident_mib_per_worker']} MiB resident in a worker; "
        f"{facts['redis_bytes_per_user']:,} bytes of Redis a cached user."
    )


def _ratios(found: Mapping[str, Any]) -> Iterator[str]:
    yield "| ratio | | bar |"
    yield "|---|---|---|"
    for name, value in found["ratios"].items():
        yield f"| {name.replace('_', ' ')} | {value} | {BARS.get(name, '')} |"


def _overload(part: Mapping[str, Any]) -> Iterator[str]:
    goodputs = part["goodputs"]
    rounds = ", ".join(f"{goodput:.0%}" for goodput in goodputs)
    which = "the middle one" if len(goodputs) % 2 else "the worse of the two in the middle"
    yield (
        f"Overload, {which} of {len(goodputs)} rounds (goodput {rounds}): capacity "
        f"{part['capacity_rps']:,.0f}/s, offered {part['offered_rps']:,.0f}/s. Goodput "
        f"{part['goodput']:.0%} of capacity; accepted p50/p99 {part['accepted_p50_ms']}/{part['accepted_p99_ms']} ms; "
        f"refused p50/p99 {part['refused_p50_ms']}/{part['refused_p99_ms']} ms; statuses {part['statuses']}; "
        f"normal again after {part['recovery_seconds']} s."
    )


def _instrumentation(part: Mapping[str, Any]) -> Iterator[str]:
    low, high = part["quarters"]
    yield (
        f"Metrics: {part['on_rps']:,.0f}/s with, {part['off_rps']:,.0f}/s without: they cost {part['cost']:.1%} "
        f"(median of {part['pairs']} pairs of turns under one load; half of them lie from {low:.1%} to {high:.1%})."
    )


def _growth(curves: Mapping[str, Any]) -> Iterator[str]:
    yield "![growth](growth.svg)"
    for name, points in curves.items():
        yield ""
        yield f"{name}: " + ", ".join(f"{point['x']:,}: {point['rps']:,.0f}/s" for point in points)
