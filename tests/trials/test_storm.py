"""A small storm over the real service; `make soak` raises one of 20,000."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trials.storm import Outcome, run


@pytest.mark.timeout(240)
async def test_whoever_gives_up_nobody_gets_the_answer_of_another(tmp_path: Path) -> None:
    outcome, tracebacks = await run(1000, tmp_path)
    assert outcome.wrong == []
    assert tracebacks == 0
    assert outcome.checked - outcome.lacking > 50  # one for five given up, less those of the beginning


@pytest.mark.parametrize(
    ("answer", "wrong", "lacking"),
    [
        ((200, "r", {"request_id": "r", "user_id": "storm-2", "provenance": {"history": 3, "degraded": []}}), 0, 0),
        ((200, "r", {"request_id": "r", "user_id": "storm-2", "provenance": {"history": 2, "degraded": []}}), 1, 0),
        ((200, "r", {"request_id": "r", "user_id": "storm-1", "provenance": {"history": 3, "degraded": []}}), 1, 0),
        ((200, "r", {"request_id": "s", "user_id": "storm-2", "provenance": {"history": 3, "degraded": []}}), 1, 0),
        ((200, "s", {"request_id": "r", "user_id": "storm-2", "provenance": {"history": 3, "degraded": []}}), 1, 0),
        (
            (200, "r", {"request_id": "r", "user_id": "storm-2", "provenance": {"history": 3, "degraded": ["cache"]}}),
            0,
            0,
        ),
        (
            (
                200,
                "r",
                {"request_id": "r", "user_id": "storm-2", "provenance": {"history": 0, "degraded": ["history"]}},
            ),
            0,
            1,
        ),
        (
            (
                200,
                "r",
                {"request_id": "r", "user_id": "storm-1", "provenance": {"history": 0, "degraded": ["history"]}},
            ),
            1,
            1,
        ),
        (
            (
                200,
                "r",
                {"request_id": "r", "user_id": "storm-2", "provenance": {"history": 4, "degraded": ["history"]}},
            ),
            1,
            1,
        ),
        ((500, "r", {"code": "internal"}), 1, 0),
        ((503, "r", {"code": "overloaded"}), 0, 0),
    ],
)
def test_an_answer_is_the_askers_in_all_that_it_says(
    answer: tuple[int, str, dict[str, Any]], wrong: int, lacking: int
) -> None:
    outcome = Outcome()
    outcome.note(2, "r", *answer)
    assert (len(outcome.wrong), outcome.lacking) == (wrong, lacking)
