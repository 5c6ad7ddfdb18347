"""The lists of an answer, beside what a JSON library makes of the same objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.written import NONE, Explained, Lists, item_members, label_members
from models.explanation import Explanation

WHY = Explanation(base=-1.5, log_odds=0.5, events=(), other_events=2.0, context=(), attributes=())

numbers = st.floats(width=32)
rows = st.lists(st.tuples(st.text(), st.text() | st.none(), st.floats(), numbers, numbers, numbers), max_size=5)


def outcomes_of(found: list[tuple[Any, ...]], first: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([[row[first + n] for row in found] for n in range(3)], np.float32).reshape(3, len(found))


def members(row: tuple[Any, ...], first: int) -> dict[str, Any]:
    click, purchase, amount = (np.float32(number) for number in row[first:])
    return {"probabilities": {"click": click, "pur%chase": purchase}, "expected": {'am"ount': amount}}


#: Names that need care.
LISTS = Lists(["click", "pur%chase"], ['am"ount'])


def plain(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


@given(rows, st.integers(0, 5))
def test_recommendations_are_what_objects_would_be(found: list[tuple[Any, ...]], first: int) -> None:
    explained: list[Explained] = [{"click": WHY} if place % 2 else None for place in range(min(first, len(found)))]
    whys = [*explained, *[None] * (len(found) - len(explained))]
    expected = [
        {
            "rank": place,
            "item_id": row[0],
            "title": row[1],
            "score": row[2],
            **members(row, 3),
            "reason": "popular",
            "explanation": why,
        }
        for place, (row, why) in enumerate(zip(found, whys, strict=True), 1)
    ]
    labels, scores = [label_members(*row[:2]) for row in found], np.array([row[2] for row in found], np.float64)
    written = LISTS.recommendations(labels, scores, outcomes_of(found, 3), "popular", explained)
    assert orjson.dumps(written) == plain(expected)


@given(rows)
def test_predictions_are_what_objects_would_be(found: list[tuple[Any, ...]]) -> None:
    expected = [{"item_id": row[0], **members(row, 3), "explanation": None} for row in found]
    written = LISTS.predictions([item_members(row[0]) for row in found], outcomes_of(found, 3))
    assert orjson.dumps(written) == plain(expected)


def test_an_empty_list_is_one() -> None:
    assert orjson.dumps({"predictions": NONE}) == b'{"predictions":[]}'
