"""Jobs of one batch: everybody's candidates and newcomers stay their own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.catalogue import ItemContent
from app.jobs import Recommend, Score, seated, shares, unpadded
from app.selection import Allowed, Selection, masks
from models.encode import Moment

MOMENT = Moment(np.zeros(0, np.int32), 0.0)
STATE = np.zeros((1, 1))
V = 10


@given(st.lists(st.lists(st.integers(2, 15), max_size=6), min_size=1, max_size=5))
def test_every_candidate_finds_its_own_newcomer_and_its_own_numbers(lists: list[list[int]]) -> None:
    """Ids from 10 on are newcomers; job j's i-th costs 100 j + i, so that a mix-up shows."""
    jobs = [
        Score(STATE, 0, MOMENT, np.array(ids, np.int32), [ItemContent(None, (), 100.0 * j + i) for i in range(6)])
        for j, ids in enumerate(lists)
    ]
    candidates, guests = seated(jobs, V, seat=50)
    costs = [guest.price for guest in guests]
    for j, (ids, row) in enumerate(zip(lists, candidates.tolist(), strict=True)):
        for known, placed in zip(ids, row, strict=False):
            assert placed == known if known < V else costs[placed - 50] == 100.0 * j + known - V
        assert not any(row[len(ids) :])
    assert [part["x"].tolist() for part in unpadded({"x": candidates}, jobs)] == [
        row[: len(ids)] for ids, row in zip(lists, candidates.tolist(), strict=True)
    ]


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, V - 1), max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_masks_hold_what_each_request_allows_and_are_shared_where_all_allow_the_same(
    asked: list[tuple[bool, list[int]]],
) -> None:
    """A request is one of two selections and the items it leaves out."""
    selections = [Selection(np.arange(V) >= 2), Selection(np.arange(V) % 2 == 0)]
    allowed = [Allowed(selections[even], np.array(without, np.int32)) for even, without in asked]
    found = masks(allowed)
    shared = len({even for even, _ in asked}) == 1 and not any(without for _, without in asked)
    assert len(found) == (1 if shared else len(asked))
    for row, one, (even, without) in zip(np.broadcast_to(found, (len(asked), V)), allowed, asked, strict=True):
        want = [item for item in range(V) if (item % 2 == 0 if even else item >= 2) and item not in without]
        assert np.flatnonzero(row).tolist() == want == [item for item in range(V) if one.has(item)]


def test_everybody_gets_as_many_items_as_they_want_and_are_allowed() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, -np.inf, -np.inf]])
    found = {"items": np.array([[5, 6, 7], [8, 9, 4]]), "scores": scores, "click": np.array([[0.5, 0.4, 0.3]] * 2)}
    every = Allowed(Selection(np.ones(V, bool)))
    jobs = [Recommend(STATE, 0, MOMENT, every, 2), Recommend(STATE, 0, MOMENT, every, 3)]
    (first, outcomes), (second, alone) = shares(found, jobs)
    assert (first.tolist(), outcomes["click"].tolist()) == ([5, 6], [0.5, 0.4])
    assert (second.tolist(), alone["click"].tolist()) == ([8], [0.5])
