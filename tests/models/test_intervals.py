"""Intervals: what a draw of users does to each metric, against the metric itself on the drawn rows."""

from __future__ import annotations

import numpy as np
import pytest

from models.intervals import Estimate, Resamples
from models.metrics import auc, expected_calibration_error


def test_the_area_under_expected_labels_counts_expected_pairs() -> None:
    """Yes weighs .5 at .1 and 1 at .2, no weighs .5 at .1 and 1 at .3: of 1.5 * 1.5 pairs .5 * .5 are ties and 1 * .5
    in order."""
    labels, scores = np.array([0.5, 1.0, 0.0]), np.array([0.1, 0.2, 0.3])
    assert auc(labels, scores) == pytest.approx((0.25 / 2 + 0.5) / 2.25)
    assert auc(np.array([0.0, 1.0, 0.0]), scores) == 0.5


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, labels and scores of 400 rows of 25 users; scores are tied here and there."""
    rng = np.random.default_rng(5)
    users = rng.integers(100, 125, 400)
    scores = np.round(rng.random(400), 2)
    return users, (rng.random(400) < scores).astype(float), scores


def drawn(users: np.ndarray, resamples: Resamples, draw: int) -> np.ndarray:
    """The rows of one draw, a row as often as its user was drawn."""
    names = np.unique(users)
    return np.repeat(np.arange(len(users)), resamples._counts[np.searchsorted(names, users), draw].astype(int))


def test_each_draw_gives_the_metric_of_the_rows_of_the_drawn_users(rows: tuple[np.ndarray, ...]) -> None:
    users, labels, scores = rows
    resamples = Resamples(users, samples=20)
    exact, mean = resamples.auc(users, labels, scores, auc(labels, scores)), resamples.mean(users, scores)
    for draw in range(20):
        picked = drawn(users, resamples, draw)
        assert len(picked)
        assert exact.draws[draw] == pytest.approx(auc(labels[picked], scores[picked]), abs=1e-6)
        assert mean.draws[draw] == pytest.approx(scores[picked].mean(), rel=1e-5)


def test_many_distinct_scores_are_binned_and_the_interval_hardly_moves() -> None:
    rng = np.random.default_rng(1)
    users, scores = rng.integers(0, 60, 5000), rng.normal(size=5000)
    labels = (rng.normal(size=5000) < scores).astype(float)
    resamples = Resamples(users, samples=10)
    binned = resamples.auc(users, labels, scores, 0.5).draws
    rows = [drawn(users, resamples, draw) for draw in range(10)]
    np.testing.assert_allclose(binned, [auc(labels[r], scores[r]) for r in rows], atol=5e-4)


def test_the_calibration_error_without_resampling_noise_is_its_own_centre(rows: tuple[np.ndarray, ...]) -> None:
    users, labels, scores = rows
    value = expected_calibration_error(labels, scores)
    estimate = Resamples(users).calibration_error(users, labels, scores, value)
    low, high = estimate.interval()
    assert low < value < high
    assert estimate.draws.mean() > value  # what the centring takes out


def test_an_interval_of_a_mean_is_as_wide_as_theory_says() -> None:
    """100 users with one row each: the standard error is std / sqrt(100), so 95% lie within 1.96 times that."""
    values = np.random.default_rng(0).normal(size=100)
    low, high = Resamples(np.arange(100), 4000).mean(np.arange(100), values).interval()
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 10, rel=0.08)


def test_rows_of_one_user_make_the_interval_no_narrower() -> None:
    values = np.random.default_rng(0).normal(size=50)
    one = Resamples(np.arange(50)).mean(np.arange(50), values).interval()
    again = Resamples(np.arange(50)).mean(np.repeat(np.arange(50), 30), np.repeat(values, 30)).interval()
    assert again == pytest.approx(one, abs=1e-6)


def test_a_difference_is_paired_by_user() -> None:
    """Two contenders that always differ by one differ by exactly one, however far the users are apart."""
    users, values = np.arange(40), np.random.default_rng(0).normal(scale=100, size=40)
    resamples = Resamples(users)
    difference = resamples.mean(users, values + 1) - resamples.mean(users, values)
    assert difference.interval() == pytest.approx((1, 1), abs=1e-3)


def test_what_most_draws_cannot_measure_has_no_interval() -> None:
    assert np.isnan(Estimate(0.7, np.array([0.7, np.nan, np.nan])).interval()).all()
    lonely = Resamples(np.array([1])).auc(np.array([1]), np.ones(1), np.ones(1), float("nan"))
    assert np.isnan(lonely.interval()).all()


def test_users_beyond_the_limit_are_drawn_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.intervals.GROUPS", 50)
    users, values = np.arange(500), np.random.default_rng(0).normal(size=500)
    low, high = Resamples(users, 2000).mean(users, values).interval()
    assert high - low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(500), rel=0.35)
