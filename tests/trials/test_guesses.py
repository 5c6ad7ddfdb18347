"""A few guesses at the real service; `make fuzz` makes 100,000 and times refusals."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from trials.guesses import Outcome, run

STEADY = {"missing": 2.0, "wrong": 2.1}
GOOD = [(200, 0.1)]


@pytest.mark.timeout(240)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have one loopback address only")
async def test_guesses_are_refused_and_then_limited_and_the_owner_of_a_key_is_not(tmp_path: Path) -> None:
    outcome, tracebacks = await run(1000, 5, tmp_path, workers=1)
    assert outcome.problems(strict=False) == []
    assert outcome.guesses.total() == 1000
    assert outcome.guesses[429] > 900
    assert tracebacks == 0


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (
            Outcome({"missing": 2.0, "wrong": 2.6}, Counter({429: 1}), 1.0, GOOD),
            "refusals take 2.00 to 2.60 ms",
        ),
        (Outcome(STEADY, Counter({401: 41, 429: 1}), 59.0, GOOD), "{401: 41, 429: 1}, with at most 40"),
        (Outcome(STEADY, Counter({401: 20, 200: 1}), 1.0, GOOD), "{401: 20, 200: 1}"),
        (Outcome(STEADY, Counter({401: 20}), 1.0, [(200, 0.1), (429, 0.1)]), "the good key was answered"),
    ],
)
def test_every_kind_of_wrong_is_seen(outcome: Outcome, says: str) -> None:
    [problem] = outcome.problems()
    assert says in problem


def test_what_is_as_it_must_be_is_no_problem() -> None:
    assert Outcome(STEADY, Counter({401: 60, 429: 9}), 61.0, GOOD).problems() == []
