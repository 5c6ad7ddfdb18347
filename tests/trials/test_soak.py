"""The verdict of a soak, on points made by hand, and its picture."""

from __future__ import annotations

import os
from pathlib import Path

from trials.load import Reply
from trials.soak import Point, judge, plot, resident

STEADY = [Point(minute, 1000.0, 5.0, 20.0, 100) for minute in range(30)]
FINE = [Reply("predict", 0.0, 0.1, 200)]


def test_a_steady_service_has_no_problems() -> None:
    soak = judge(30, 10.0, STEADY, FINE, [])
    assert (soak.problems, soak.growth, soak.p99_ms) == ([], 0.0, (20.0, 20.0))


def test_what_happens_while_caches_fill_does_not_count() -> None:
    points = [Point(minute, 500.0, 5.0, 1.0, 100) for minute in range(5)] + STEADY[5:]
    assert judge(30, 10.0, points, FINE, []).problems == []


def test_growth_slowness_failures_and_staleness_are_problems() -> None:
    points = STEADY[:20] + [Point(minute, 1060.0, 5.0, 31.0, 100) for minute in range(20, 30)]
    soak = judge(30, 10.0, points, [*FINE, Reply("events", 0.0, 0.1, 503)], ["u has 1 events of 2"])
    assert soak.problems == [
        "u has 1 events of 2",
        "memory grew by 6.0%",
        "p99 went from 20 to 31 ms",
        "1 requests failed",
    ]


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot(STEADY, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_memory_of_this_process_is_read() -> None:
    assert 10 < resident([os.getpid()]) < 100_000
