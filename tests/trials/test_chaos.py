"""A short fault matrix: what is said and kept is judged, but no clock, for the machine may be busy."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.chaos import run
from trials.faults import FAULTS
from trials.load import Reply
from trials.verdict import Times, Verdict, judge

#: Those that cost little; `make chaos` runs them all, restarts of the service included.
QUICK = [fault for fault in FAULTS if fault.name not in ("trickle", "kill-worker", "sigterm")]


@pytest.mark.timeout(240)
async def test_whatever_fails_answers_are_deliberate_and_nothing_promised_is_lost(tmp_path: Path) -> None:
    results = await run(QUICK, 2.0, tmp_path, users=50, strict=False, rate=40.0, workers=1)
    assert {row["fault"]: row["problems"] for row in results["faults"]} == {fault.name: [] for fault in QUICK}
    named = {row["fault"]: set(row["degraded"]) for row in results["faults"]}
    assert "cache" in named["kill-redis"] & named["slow-redis"] & named["full-redis"]
    assert named["kill-both"] == {"cache", "history"}


def _verdict(fault: str, *replies: Reply, lost: int = 0, stale: tuple[str, ...] = (), tracebacks: int = 0) -> Verdict:
    """Of a fault from second 10 to second 20, with a budget of a second."""
    chosen = next(known for known in FAULTS if known.name == fault)
    return judge(chosen, replies, Times(10, 20, 20), 1.0, acknowledged=9, lost=lost, stale=stale, tracebacks=tracebacks)


@pytest.mark.parametrize(
    ("verdict", "problem"),
    [
        (_verdict("garbage", Reply("predict", 12, 0.1, 500)), "answers that nobody meant: {'500': 1}"),
        (_verdict("garbage", Reply("predict", 12, 20.0, -2)), "answers that nobody meant: {'hung': 1}"),
        (_verdict("garbage", Reply("predict", 10, 0.1, 0)), "answers that nobody meant: {'broken': 1}"),
        (_verdict("kill-worker", Reply("predict", 12, 0.1, 0)), "answers that nobody meant: {'broken': 1}"),
        (_verdict("kill-redis", Reply("predict", 15, 0.1, 200)), "1 of 1 answers do not name the lost cache"),
        (
            _verdict("kill-mongo", Reply("predict", 15, 0.1, 200, (), "anonymous")),
            "1 of 1 answers do not name the lost history",
        ),
        (_verdict("garbage", Reply("predict", 12, 1.2, 200)), "p99 is 1200 ms"),
        (_verdict("garbage", Reply("predict", 25, 0.5, 503)), "normal only after 5.5 s"),
        (_verdict("sigterm", Reply("predict", 15, 0.0, -1)), "answers that nobody meant: {'refused': 1}"),
        (_verdict("garbage", lost=1), "1 acknowledged events are lost"),
        (_verdict("garbage", stale=("u has 1 events of 2",)), "u has 1 events of 2"),
        (_verdict("garbage", tracebacks=1), "1 tracebacks in the log"),
    ],
)
def test_the_judge_sees_every_kind_of_wrong(verdict: Verdict, problem: str) -> None:
    assert verdict.problems == [problem]


def test_the_judge_lets_deliberate_answers_pass() -> None:
    fine = [
        Reply("predict", 9, 0.1, 200),
        Reply("predict", 15, 1.05, 200, ("history",), "computed"),
        Reply("predict", 15, 0.1, 200, (), "cached"),
        Reply("events", 15, 0.1, 503),
        Reply("events", 24, 0.1, 200, ("cache",)),
    ]
    assert _verdict("kill-mongo", *fine).problems == []
    assert _verdict("kill-worker", Reply("predict", 10.5, 0.1, 0)).problems == []
