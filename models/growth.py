"""How boosted trees are grown on the decisions of a log; what they then answer is in :mod:`models.trees`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from models.calibrate import calibrate
from models.contract import Contract
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.features import feature_names
from models.log import Log, Split
from models.questions import decisions_of
from models.samples import Popularity
from models.scoring import Scorer
from models.trees import Constant, Floats, Trees, encode, feature_rows

#: Values of a context field that trees can tell apart as categories; larger fields count as numbers.
CATEGORIES = 255
#: Rows whose features are made at once.
CHUNK = 8192
#: Places and rows by which the chance that a place is looked at is measured.
PLACES, PLACE_ROWS = 32, 4000


@dataclass(frozen=True, slots=True)
class TreesConfig:
    """How to grow them.

    Attributes:
        rows: decisions learned from at most, negatives included; a fifth as many validation decisions stop the growth.
        iterations, patience: trees at most, and trees without a better validation loss before it ends.
        learning_rate, leaves, l2: of each tree.
    """

    rows: int = 500_000
    iterations: int = 300
    patience: int = 15
    learning_rate: float = 0.1
    leaves: int = 31
    l2: float = 1.0
    seed: int = 1


def fit_trees(
    dataset: Dataset, log: Log, split: Split, config: TreesConfig | None = None, *, horizon_days: float = 0.0
) -> Trees:
    """Trees grown on the decisions before ``split.validation``, stopped by those before ``split.test`` and calibrated
    on them, as networks are.

    What never varies among the training rows (one purchase in a million may not be drawn) is forecast as it is there,
    and a value that none of them has as usual.
    """
    config = config or TreesConfig()
    limits = ((0.0, split.validation, config.rows), (split.validation, split.test, config.rows // 5))
    learn, check = (
        decisions_of(dataset, log, start, end, limit, seed=config.seed, horizon_days=horizon_days)
        for start, end, limit in limits
    )
    x, x_check = training_rows(log, learn), training_rows(log, check)
    rows = log.contract, config, x, x_check
    told, later = _labels(log, learn), _labels(log, check)
    classifiers = {name: _grown(HistGradientBoostingClassifier, *rows, *told[name], *later[name]) for name in told}
    told, later = _sizes(log, learn), _sizes(log, check)
    regressors = {name: _grown(HistGradientBoostingRegressor, *rows, *told[name], *later[name]) for name in told}
    trees = Trees(log, classifiers, regressors, _examination(classifiers, x, learn.shown, config.seed))
    if len(check):
        trees.calibration, _ = calibrate(log, trees.functions, check, trees.examination)
    return trees


def refit_trees(
    first: Trees,
    dataset: Dataset,
    log: Log,
    split: Split,
    config: TreesConfig | None = None,
    *,
    horizon_days: float = 0.0,
) -> Trees:
    """As many trees as ``first`` has, grown on the decisions before ``split.learned``, as train.refit does it.

    Its calibration stays, and what needed no tree still needs none. ``config``: what it was grown with.
    """
    config = config or TreesConfig()
    learn = decisions_of(dataset, log, 0.0, split.learned, config.rows, seed=config.seed, horizon_days=horizon_days)
    x = training_rows(log, learn)
    kinds = ((first.classifiers, _labels(log, learn), np.mean), (first.regressors, _sizes(log, learn), np.median))
    classifiers, regressors = (
        {name: _refitted(models[name], x, *answers, middle) for name, answers in told.items()}
        for models, told, middle in kinds
    )
    trees = Trees(log, classifiers, regressors, _examination(classifiers, x, learn.shown, config.seed))
    trees.calibration = first.calibration
    return trees


def training_rows(log: Log, decisions: Decisions) -> Floats:
    """Features [R, K + F + 1] of decisions as they were at the time: features, context, the place shown."""
    scorer, popularity = Scorer(log, {"encode": encode}), Popularity(log)
    width = len(feature_names(log.contract)) + len(log.contract.fields) + 1
    parts = [np.zeros((0, width), np.float32)]
    for start in range(0, len(decisions), CHUNK):
        some = decisions.take(np.arange(start, min(start + CHUNK, len(decisions))))
        states, index = scorer.states(some.user, some.before)
        inputs = {name: array[index] for name, array in states.items()}
        inputs |= {"context": some.context, "since": scorer.since(some)}
        then = popularity.before(some.items, some.at)[:, None]
        items, shown = some.items[:, None], some.shown[:, None]
        parts.append(feature_rows(log, inputs, items, then, shown))
    return np.concatenate(parts)


def _labels(log: Log, decisions: Decisions) -> dict[str, tuple[Floats, Floats]]:
    """By target, the answers [R] and their weights [R]."""
    pairs = zip(decisions.labels.T, decisions.weights.T, strict=True)
    return dict(zip(log.contract.targets, pairs, strict=True))


def _sizes(log: Log, decisions: Decisions) -> dict[str, tuple[Floats, Floats]]:
    """By value, logs of the amounts [R] in units of their scale, and weights [R]: 0 where they are not known or not
    positive."""
    found = {}
    for name, values in zip(log.contract.values, decisions.values.T, strict=True):
        known = np.isfinite(values) & (values > 0)
        logs = np.log(np.where(known, values / log.contract.value_scales[name], 1.0))
        found[name] = logs.astype(np.float32), known.astype(np.float32)
    return found


def _grown(
    kind: Any,
    contract: Contract,
    config: TreesConfig,
    x: Floats,
    x_check: Floats,
    y: Floats,
    weights: Floats,
    y_check: Floats,
    weights_check: Floats,
) -> Any:
    """One fitted model of the rows that have a weight; without validation rows it grows to a third.

    What is the same in all rows needs no tree.
    """
    rows, checks = weights > 0, weights_check > 0
    if len(np.unique(y[rows])) < 2:
        return Constant(float(y[rows][0]) if rows.any() else 0.0)
    first = x.shape[1] - 1 - len(contract.fields)
    model = kind(
        loss="log_loss" if kind is HistGradientBoostingClassifier else "absolute_error",
        learning_rate=config.learning_rate,
        max_iter=config.iterations if checks.any() else config.iterations // 3,
        max_leaf_nodes=config.leaves,
        l2_regularization=config.l2,
        categorical_features=[first + i for i, field in enumerate(contract.fields) if field.size <= CATEGORIES],
        early_stopping=bool(checks.any()),
        n_iter_no_change=config.patience,
        random_state=config.seed,
    )
    stop = {"X_val": x_check[checks], "y_val": y_check[checks], "sample_weight_val": weights_check[checks]}
    return model.fit(x[rows], y[rows], weights[rows], **(stop if checks.any() else {}))


def _refitted(model: Any, x: Floats, y: Floats, weights: Floats, middle: Callable[[Floats], Any]) -> Any:
    """The model fitted anew to the rows that have a weight, with as many trees; without any it says their middle."""
    rows = weights > 0
    if isinstance(model, Constant) or len(np.unique(y[rows])) < 2:
        return Constant(float(middle(y[rows])) if rows.any() else 0.0)
    again = clone(model).set_params(max_iter=model.n_iter_, early_stopping=False)
    return again.fit(x[rows], y[rows], weights[rows])


def _examination(classifiers: Mapping[str, Any], x: Floats, shown: NDArray[np.int32], seed: int) -> Floats:
    """The mean chance of a yes at each place over that at the first, all targets together, [PLACES]; place 0 as 1.

    Measured on the training rows that were shown, each put at every place in turn (partial dependence, Friedman 2001).
    """
    known = np.flatnonzero(shown > 0)
    if not len(known):
        return np.ones(PLACES, np.float32)
    rng = np.random.default_rng(seed)
    rows = x[rng.choice(known, min(PLACE_ROWS, len(known)), replace=False)]
    chances = np.ones(PLACES)
    for place in range(1, PLACES):
        rows[:, -1] = place
        chances[place] = sum(model.predict_proba(rows)[:, 1].mean() for model in classifiers.values())
    chances[0] = chances[1]
    return np.asarray(np.minimum(chances / chances[0], 1.0), np.float32)
