"""Speed of serving: ``make bench-serving``, or ``python -m benchmarks.serving --help``.

One run measures the limit, Foretell and its peers, so that ratios hold on any machine; ``results.json`` and
``results.md`` are written beside this file. ``--quick`` writes nothing there: it only shows that everything runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.serving import growth, instrumentation, overload
from benchmarks.serving.bench import FOLDER, bench, stores
from benchmarks.serving.beside import beside
from benchmarks.serving.environments import ready
from benchmarks.serving.measure import Plan, measure, results
from benchmarks.serving.profile import profile
from benchmarks.serving.report import markdown
from benchmarks.serving.shop import Shop
from benchmarks.serving.systems import PEERS, peers
from benchmarks.serving.wrk import BenchmarkError, check_wrk
from foretell.embedded import EmbeddedError

HERE = Path(__file__).parent
QUICK = Plan(seconds=2, repeats=1, connections=(1, 32))
#: Sections of results.json that have a command line option of their own.
SECTIONS = {"overload": overload.run, "instrumentation": instrumentation.run, "growth": growth.run}


def main(arguments: Sequence[str]) -> None:
    """Measure what the options say, then write what was found."""
    options = _options(arguments)
    quick, plan = options.quick, QUICK if options.quick else Plan(options.seconds, options.repeats)
    shop = Shop(users=200 if quick else options.users)
    folder = FOLDER if quick else HERE
    found = {} if quick else _read(folder / "results.json")
    try:
        check_wrk()
        names = [name for name in PEERS if ready(name) or not quick] if options.peers else []
        with stores() as opened:
            chosen = [name for name in SECTIONS if getattr(options, name)]
            if options.profile:
                profile(bench(shop, opened), folder / "profile.svg", plan)
                return
            if options.beside:
                print(beside(bench(shop, opened), options.beside, plan))
                return
            for name in chosen:
                found[name] = SECTIONS[name](opened, shop, plan)
                _write(folder, found, name)
            if not chosen:
                found |= results(measure(bench(shop, opened), plan, peers(names)))
                _write(folder, found, "comparison")
    except (BenchmarkError, EmbeddedError) as error:
        sys.exit(str(error))


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test: seconds a cell, peers only where installed")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a cell (default: 10)")
    parser.add_argument("--repeats", type=int, default=3, help="of the whole run (default: 3)")
    parser.add_argument("--users", type=int, default=2000, help="whose states are cached (default: 2000)")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="leave out the other frameworks")
    parser.add_argument("--profile", action="store_true", help="only a flame graph of the warm path")
    parser.add_argument("--beside", type=Path, metavar="FOLDER", help="only ratios over another checkout of Foretell")
    parser.add_argument("--overload", action="store_true", help="only three times the capacity, for a minute")
    parser.add_argument("--instrumentation", action="store_true", help="only what metrics cost")
    parser.add_argument("--growth", action="store_true", help="only the growth curves")
    return parser.parse_args(arguments)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _write(folder: Path, found: dict[str, Any], section: str) -> None:
    """Write both files and show the table; ``section`` was measured today."""
    found["machine"] = f"{os.cpu_count()} cores, {platform.machine()}"
    found.setdefault("dates", {})[section] = f"{datetime.now(UTC):%Y-%m-%d}"
    (folder / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    text = markdown(found)
    (folder / "results.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(sys.argv[1:])
