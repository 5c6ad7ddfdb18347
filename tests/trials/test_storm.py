"""A small storm over the real service; `make soak` raises one of 20,000."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials.storm import run


@pytest.mark.timeout(240)
async def test_whoever_gives_up_nobody_gets_the_answer_of_another(tmp_path: Path) -> None:
    outcome, tracebacks = await run(1000, tmp_path)
    assert outcome.wrong == []
    assert tracebacks == 0
    assert outcome.checked > 50  # one for five given up, less those of the beginning
