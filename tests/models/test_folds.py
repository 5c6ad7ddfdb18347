"""Folds: periods that follow each other, an expanding training time, and means over them by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.datasets.dataset import Dataset
from models.folds import fold_splits, summary, unseen


def test_each_fold_starts_where_the_one_before_ends_and_the_test_time_is_left_out(shop: Dataset) -> None:
    splits = fold_splits(shop, 3)
    at = np.sort(shop.events["at"].dt.epoch("ms").to_numpy() / 1000.0)
    assert [a.test for a in splits[:-1]] == [b.validation for b in splits[1:]]
    shares = [float(np.mean(at < split.validation)) for split in splits] + [float(np.mean(at < splits[-1].test))]
    np.testing.assert_allclose(shares, [0.6, 0.7, 0.8, 0.9], atol=0.01)


def test_many_folds_are_narrower_so_that_the_first_has_enough_to_learn_from(shop: Dataset) -> None:
    splits = fold_splits(shop, 10)
    at = shop.events["at"].dt.epoch("ms").to_numpy() / 1000.0
    assert np.mean(at < splits[0].validation) == pytest.approx(0.4, abs=0.01)
    assert len(splits) == 10


def test_one_fold_is_refused(shop: Dataset) -> None:
    with pytest.raises(ValueError, match="choose two or more"):
        fold_splits(shop, 1)


def test_mean_and_spread_are_over_the_metrics_that_every_fold_has() -> None:
    found = summary([{"click": {"auc": 0.7, "ece": 0.1}}, {"click": {"auc": 0.9}}])
    assert found["mean"] == {"click": {"auc": pytest.approx(0.8)}}
    assert found["spread"]["click"]["auc"] == pytest.approx(0.2 / np.sqrt(2))
    assert found["each"][0]["click"]["ece"] == 0.1


def test_a_fold_is_not_judged_by_a_calibration_that_has_seen_it() -> None:
    metrics = {
        "validation": {"model": {"click": {"auc": 0.7, "logloss": 0.1, "ece": 0.0}, "purchase": {"ece": 0.0}}},
        "calibration": {"targets": {"click": {"cross-fitted": {"logloss": 0.2, "ece": 0.01}}, "purchase": {}}},
    }
    assert unseen(metrics) == {"click": {"auc": 0.7, "logloss": 0.2, "ece": 0.01}, "purchase": {}}
