"""What was shown before each event: by hand, and against counting one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from models.contract import PAD
from models.exposures import Exposed, exposures_before

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
Rows = list[tuple[str, int]]


def frame(rows: Rows) -> pl.DataFrame:
    """Users and times (in milliseconds after noon), in the order of a data set."""
    at = pl.Series("at", [NOON + timedelta(milliseconds=ms) for _, ms in rows], pl.Datetime("ms", "UTC"))
    return pl.DataFrame({"user_id": pl.Series([user for user, _ in rows], dtype=pl.String)}).with_columns(at)


def test_each_exposure_belongs_to_the_next_event_of_its_user() -> None:
    shown = frame([("a", 0), ("a", 5), ("a", 10), ("a", 99), ("b", 1), ("c", 3)])
    events = frame([("a", 5), ("a", 5), ("a", 50), ("b", 0), ("b", 2), ("d", 9)])
    bounds = exposures_before(events, shown)
    assert [list(range(*pair)) for pair in bounds.tolist()] == [
        [0, 1],  # also the one of the very time
        [],  # the first of two events of one time has them
        [2],  # and what came after the last event belongs to none
        [],
        [4],
        [],
    ]
    exposed = Exposed(np.array([5, 6, 7, 8, 9, 4, PAD], np.int32), bounds)
    assert exposed.newest(np.array([[0, 1], [2, 4]]), 2).tolist() == [[[5, 6], [0, 0]], [[0, 7], [0, 9]]]
    assert exposed.newest(slice(0, 1), 1).tolist() == [[6]]
    assert exposed.counts(slice(None)).tolist() == [3, 1, 2, 1, 2, 1]  # one more than there were


def test_more_than_a_state_can_say_count_as_many_as_it_can_say() -> None:
    assert Exposed(np.zeros(101, np.int32), np.array([[0, 100], [3, 66]])).counts([0, 1]).tolist() == [63, 63]


def test_where_nobody_recorded_it_nothing_is_known() -> None:
    assert Exposed.nothing(2).newest(np.array([0, 1]), 3).tolist() == [[0, 0, 0]] * 2
    assert Exposed.nothing(2).counts(np.array([0, 1])).tolist() == [0, 0]


def test_without_events_or_exposures_there_is_nothing() -> None:
    assert exposures_before(frame([]), frame([("a", 1)])).shape == (0, 2)
    assert exposures_before(frame([("a", 1)]), frame([])).tolist() == [[0, 0]]


rows = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 12)), max_size=25).map(sorted)


@given(rows, rows)
def test_it_is_what_counting_one_by_one_gives(events: Rows, shown: Rows) -> None:
    left = list(range(len(shown)))
    for (user, ms), pair in zip(events, exposures_before(frame(events), frame(shown)).tolist(), strict=True):
        mine = [i for i in left if shown[i][0] == user and shown[i][1] <= ms]
        left = [i for i in left if i not in mine]
        assert list(range(*pair)) == mine
