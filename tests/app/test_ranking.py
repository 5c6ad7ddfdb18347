"""Ranking: pure functions, checked by property and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking import NO_GROUP, discount, objective_scores, perturb, rank

scores_and_groups = st.lists(
    st.tuples(st.floats(-10, 10, allow_subnormal=False), st.integers(-1, 3)), min_size=0, max_size=40
)
shares = st.floats(0, 1)


def _arrays(pairs: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([s for s, _ in pairs], np.float64), np.array([g for _, g in pairs], np.int64)


@given(scores_and_groups, st.integers(1, 60), shares, shares, st.integers(0, 9))
def test_a_ranking_names_each_candidate_at_most_once_and_respects_k(
    pairs: list[tuple[float, int]], k: int, diversity: float, exploration: float, seed: int
) -> None:
    scores, groups = _arrays(pairs)
    random = np.random.default_rng(seed)
    order, _ = rank(scores, k, groups=groups, diversity=diversity, exploration=exploration, random=random)
    assert len(order) == min(k, len(pairs))
    assert len(set(order.tolist())) == len(order)
    assert set(order.tolist()) <= set(range(len(pairs)))


@given(scores_and_groups, st.integers(1, 60), shares)
def test_scores_never_rise_without_exploration(pairs: list[tuple[float, int]], k: int, diversity: float) -> None:
    scores, groups = _arrays(pairs)
    _, adjusted = rank(scores, k, groups=groups, diversity=diversity)
    assert np.all(np.diff(adjusted) <= 0)


@given(scores_and_groups, shares, shares, st.integers(0, 9))
def test_the_same_seed_gives_the_same_order(
    pairs: list[tuple[float, int]], diversity: float, exploration: float, seed: int
) -> None:
    scores, groups = _arrays(pairs)
    orders = [
        rank(
            scores,
            10,
            groups=groups,
            diversity=diversity,
            exploration=exploration,
            random=np.random.default_rng(seed),
        )[0].tolist()
        for _ in range(2)
    ]
    assert orders[0] == orders[1]


def test_a_second_item_of_a_category_is_discounted_by_the_diversity() -> None:
    """0.8 and 0.6 share a category: at diversity 0.5 the second is worth 0.3, so 0.5 comes between them."""
    order, adjusted = rank(np.array([0.8, 0.6, 0.5]), 3, groups=np.array([7, 7, 8]), diversity=0.5)
    assert order.tolist() == [0, 2, 1]
    assert adjusted == pytest.approx([0.8, 0.5, 0.3])


def test_items_without_a_category_are_never_discounted() -> None:
    order, adjusted = rank(np.array([0.8, 0.6, 0.5]), 3, groups=np.full(3, NO_GROUP), diversity=1.0)
    assert order.tolist() == [0, 1, 2]
    assert adjusted == pytest.approx([0.8, 0.6, 0.5])


def test_ties_keep_the_order_of_the_candidates() -> None:
    order, _ = rank(np.array([0.5, 0.7, 0.5, 0.7]), 4)
    assert order.tolist() == [1, 3, 0, 2]


def test_a_discount_never_raises_a_score_below_zero() -> None:
    assert discount(np.array([-0.4, 0.4]), 0.5, np.array([1, 1])) == pytest.approx([-0.6, 0.2])


def test_the_score_is_the_weighted_sum_of_probabilities() -> None:
    outcomes = {"click": np.array([0.5, 0.25], np.float32), "purchase": np.array([0.125, 0.5], np.float32)}
    assert objective_scores(outcomes, {"purchase": 2.0, "click": 1.0}).tolist() == [0.75, 1.25]


def test_full_exploration_draws_the_first_place_in_proportion_to_the_scores() -> None:
    """Scores 3 and 1: three of four draws put the first one first (20,000 draws, standard error 0.003)."""
    random = np.random.default_rng(0)
    firsts = [rank(np.array([3.0, 1.0]), 1, exploration=1.0, random=random)[0][0] for _ in range(20_000)]
    assert np.mean(np.array(firsts) == 0) == pytest.approx(0.75, abs=0.015)


def test_exploration_reports_the_scores_themselves() -> None:
    scores = np.array([0.1, 0.9, 0.5])
    order, reported = rank(scores, 3, exploration=1.0, random=np.random.default_rng(3))
    assert reported.tolist() == scores[order].tolist()


@given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), max_size=30), shares)
def test_perturbed_keys_are_finite_and_positive(scores: list[float], temperature: float) -> None:
    keys = perturb(np.array(scores, np.float64), temperature, np.random.default_rng(0))
    assert np.all(np.isfinite(keys))
    assert np.all(keys > 0)
