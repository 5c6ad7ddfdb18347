"""Boosted trees: the networks' own features, answers like a served model's, and places kept apart from scores."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import tensorflow as tf

from models.calibrate import calibrate, logits_of
from models.calibration import SEGMENTS, Calibration, Line
from models.contract import FIRST
from models.datasets.dataset import Dataset
from models.decisions import event_decisions, exposure_decisions
from models.features import decision_features, feature_names
from models.growth import TreesConfig, fit_trees, refit_trees, training_rows
from models.log import Log, Split, split_by_time
from models.matches import pack_tail
from models.metrics import auc
from models.past import Candidates, Past
from models.questions import decisions_of
from models.samples import Windows
from models.trees import Constant, Trees, _distinct

CONFIG = TreesConfig(rows=10_000, iterations=12, leaves=6)


@pytest.fixture(scope="module")
def split(shop: Dataset) -> Split:
    return split_by_time(shop)


@pytest.fixture(scope="module")
def trees(shop: Dataset, log: Log, split: Split) -> Trees:
    return fit_trees(shop, log, split, CONFIG)


def test_training_rows_are_the_features_that_networks_see_in_training(shop: Dataset, log: Log) -> None:
    decisions = exposure_decisions(shop, log)
    some = decisions.take(decisions.before <= log.contract.history_length // 2)  # whose windows show all of the past
    windows = Windows(log, some, event_decisions(log), per_window=1000)
    batch = {key: tf.constant(array) for key, array in windows.batch(np.arange(3)).items()}
    state = pack_tail(*(batch[name] for name in ("items", "types", "ages", "exposures")))
    numbers = log.content["numbers"][batch["candidates"]]
    numbers[..., 0] = np.round(numbers[..., 0] * 20) / 20
    numbers[..., 2] = batch["popularity"]
    candidates = Candidates(batch["candidates"], None, tf.constant(numbers), batch["context"])
    past = Past(state, batch["items"] != 0, batch["prefix"], batch["since"])
    seen = decision_features(log.contract, past, candidates, tf.constant(log.content["categories"])).numpy()
    real = batch["candidates"].numpy() != 0
    grouped = windows._decisions
    assert grouped is not None
    rows = training_rows(log, grouped.take(np.arange(int(real.sum()))))
    width = len(feature_names(log.contract))
    shown = np.array(["shown" in name for name in feature_names(log.contract)])  # large sums over float32 ages
    np.testing.assert_allclose(rows[:, :width][:, ~shown], seen[real][:, ~shown], atol=1e-5)
    np.testing.assert_allclose(rows[:, :width][:, shown], seen[real][:, shown], rtol=1e-5)
    np.testing.assert_array_equal(rows[:, width:-1], batch["context"].numpy()[real])
    np.testing.assert_array_equal(rows[:, -1], batch["shown"].numpy()[real])


def test_trees_tell_decisions_apart_better_than_chance(trees: Trees, shop: Dataset, log: Log, split: Split) -> None:
    decisions = decisions_of(shop, log, split.validation, float("inf"), 3000)
    scored = trees.score(decisions)
    assert auc(decisions.labels[:, 0], scored.probabilities[:, 0]) > 0.55
    assert ((scored.probabilities > 0) & (scored.probabilities < 1)).all()
    assert (scored.values > 0).all()
    assert scored.values.shape == (len(decisions), len(log.contract.values))


def test_trees_are_calibrated_on_validation_as_networks_are(
    trees: Trees, shop: Dataset, log: Log, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what calibrating the bare trees finds; and a line that adds 1 adds 1 to every logit."""
    decisions = decisions_of(shop, log, split.validation, split.test, 2_000, seed=1)
    fitted, none = trees.calibration, Calibration.none(log.contract.targets)
    monkeypatch.setattr(trees, "calibration", none)
    raw = trees.score(decisions).probabilities
    found, _ = calibrate(log, trees.functions, decisions, trees.examination)
    assert fitted.to_json() == found.to_json() != none.to_json()
    more = Calibration({name: [Line((0.0, 1.0), (1.0, 2.0))] * len(SEGMENTS) for name in log.contract.targets})
    monkeypatch.setattr(trees, "calibration", more)
    shifted = trees.score(decisions).probabilities
    np.testing.assert_allclose(logits_of(shifted), logits_of(raw) + 1, atol=1e-4)


def test_ranks_are_those_of_the_objective_over_the_whole_catalogue(trees: Trees, log: Log, split: Split) -> None:
    moves = event_decisions(log).between(split.validation, split.test)
    some = moves.take(np.arange(0, len(moves), len(moves) // 5))
    ranks = trees.ranks(some)
    assert trees.ranks_by_target(some).shape == (len(some), 1 + len(log.contract.targets))
    weights = np.array([log.contract.objective[name] for name in log.contract.targets])
    items = np.arange(FIRST, log.contract.items, dtype=np.int32)
    for row in range(len(some)):
        every = replace(some.take(np.full(len(items), row)), items=items)
        value = trees.score(every).probabilities @ weights
        own = value[some.items[row] - FIRST]
        assert (value > own + 1e-6).sum() < ranks[row] <= (value >= own - 1e-6).sum()


def test_places_further_down_are_looked_at_less_and_scores_do_not_depend_on_them(
    trees: Trees, shop: Dataset, log: Log, split: Split
) -> None:
    decisions = decisions_of(shop, log, split.validation, split.test, 200)
    moved = replace(decisions, shown=np.full(len(decisions), 7, np.int32))
    np.testing.assert_array_equal(trees.score(moved).probabilities, trees.score(decisions).probabilities)
    assert trees.examination[0] == trees.examination[1] == 1
    assert trees.examination[8] < 0.95


def test_items_with_equal_features_are_judged_once() -> None:
    rows, alike = _distinct(np.array([[1, 2], [0, 5], [1, 2]], np.float32))
    assert len(rows) == 2
    np.testing.assert_array_equal(rows[alike], [[1, 2], [0, 5], [1, 2]])


def test_a_target_that_never_varies_is_forecast_as_often_as_it_happens(shop: Dataset, log: Log, split: Split) -> None:
    """Before the fourth event of the shop nothing was bought."""
    early = Split(float(np.sort(log.at)[3]), split.test)
    trees = fit_trees(shop, log, early, TreesConfig(rows=100))
    assert log.contract.targets[-1] == "purchase"
    asked = exposure_decisions(shop, log).take(np.arange(20))
    assert (trees.score(asked).probabilities[:, -1] == 0).all()
    assert Constant(0.25).predict_proba(np.zeros((2, 5), np.float32)).tolist() == [[0.75, 0.25]] * 2


def test_trees_are_refitted_with_as_many_on_all_before_the_test(
    trees: Trees, shop: Dataset, log: Log, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Mock(wraps=decisions_of)
    monkeypatch.setattr("models.growth.decisions_of", drawn)
    later = replace(split, refit=True)
    again = refit_trees(trees, shop, log, later, CONFIG)
    assert drawn.call_args.args[2:4] == (0.0, split.test)
    for name, model in trees.classifiers.items():
        assert again.classifiers[name].n_iter_ == model.n_iter_
        assert not again.classifiers[name].early_stopping
    assert again.calibration is trees.calibration

    still = Trees(log, {**trees.classifiers, "purchase": Constant(0.5)}, trees.regressors, trees.examination)
    constant = refit_trees(still, shop, log, later, CONFIG).classifiers["purchase"]
    learned = decisions_of(shop, log, 0.0, split.test, CONFIG.rows, seed=CONFIG.seed)
    assert isinstance(constant, Constant)
    assert constant.number == pytest.approx(learned.labels[:, 1].mean())
