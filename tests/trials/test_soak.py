"""The verdict of a soak, on points made by hand, and its picture."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trials.load import Reply
from trials.soak import Point, Soak, judge, markdown, plot, resident, run

STEADY = [Point(minute, 1000.0, 5.0, 20.0, 100) for minute in range(30)]
FINE = [Reply("predict", 0.0, 0.1, 200)]


def _judge(points: list[Point], replies: list[Reply], wrong: list[str]) -> Soak:
    return judge(30, 40.0, 100.0, points, replies, wrong)


def test_a_steady_service_has_no_problems() -> None:
    soak = _judge(STEADY, FINE, [])
    assert (soak.problems, soak.growth, soak.p99_ms) == ([], 0.0, [20.0] * 5)


def test_what_happens_while_caches_fill_does_not_count() -> None:
    points = [Point(minute, 500.0, 5.0, 1.0, 100) for minute in range(5)] + STEADY[5:]
    assert _judge(points, FINE, []).problems == []


def test_growth_slowness_failures_and_staleness_are_problems() -> None:
    points = STEADY[:20] + [Point(minute, 1060.0, 5.0, 31.0, 100) for minute in range(20, 30)]
    soak = _judge(points, [*FINE, Reply("events", 0.0, 0.1, 500)], ["u has 1 events of 2"])
    assert soak.problems == [
        "u has 1 events of 2",
        "answers that nobody meant: {'500': 1}",
        "memory grew by 6.0%",
        "p99 went from 20 to 31 ms",
    ]


def test_a_slow_while_in_the_middle_is_a_problem() -> None:
    """25 minutes count; the third fifth is minutes 15 to 19."""
    points = [Point(minute, 1000.0, 5.0, 40.0 if 15 <= minute < 20 else 20.0, 100) for minute in range(30)]
    soak = _judge(points, FINE, [])
    assert soak.p99_ms == [20.0, 20.0, 40.0, 20.0, 20.0]
    assert soak.problems == ["p99 went from 20 to 40 ms"]


@pytest.mark.parametrize(("refused", "problems"), [(1, []), (2, ["2 of 1002 requests were refused"])])
def test_one_answer_in_a_thousand_may_be_a_refusal(refused: int, problems: list[str]) -> None:
    assert _judge(STEADY, FINE * 1000 + [Reply("predict", 0.0, 0.1, 503)] * refused, []).problems == problems


def test_the_results_name_the_load_and_the_verdict() -> None:
    told = markdown(_judge(STEADY, FINE, []), "2026-01-01, a machine")
    assert "30 minutes of 40 requests a second, 40% of the capacity of 100:" in told
    assert "| verdict | ok |" in told


@pytest.mark.timeout(240)
async def test_everything_that_the_service_is_asked_is_answered(tmp_path: Path) -> None:
    """A soak of nine seconds: no clock is judged and no memory, but every answer is."""
    soak, points = await run(0.15, tmp_path, rate=40.0, users=50, workers=1, point=1.0, xla=False)
    assert set(soak.statuses) <= {"200", "503", "504"}
    assert soak.statuses["200"] > 0.9 * soak.requests > 200
    assert soak.stale == 0
    assert [problem for problem in soak.problems if "nobody meant" in problem] == []
    assert len(points) >= 5


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    plot(STEADY, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")


def test_memory_of_this_process_is_read() -> None:
    assert 10 < resident([os.getpid()]) < 100_000
