"""Gradient-boosted trees on the yardsticks' features: a reference for evaluation alone, never exported.

Trees answer the same functions as a served model (``encode``, ``retrieve``, ``score``), so whatever evaluates one
evaluates the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from models.calibrate import calibrate, logits_of
from models.calibration import IDENTITY, Calibration
from models.calibrators import sigmoid
from models.contract import POPULARITY, Contract
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.encode import Arrays
from models.features import catalogue_features, decision_features, feature_names
from models.log import Log, Split
from models.matches import pack_tail
from models.past import Candidates, Catalogue, Events, Past
from models.questions import decisions_of
from models.samples import Popularity
from models.scoring import Scorer

Floats = NDArray[np.float32]

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


class Trees(Scorer):
    """One boosted classifier a target and one regressor (absolute error of the log) a value.

    Where an item was shown is a feature in training. Scores are at the first place; ``examination`` [positions] says
    how the chance of a yes falls with the place, so that both are used as a network's are.
    """

    def __init__(
        self, log: Log, classifiers: Mapping[str, Any], regressors: Mapping[str, Any], examination: Floats
    ) -> None:
        super().__init__(log, {"encode": _encode, "retrieve": self._retrieve, "score": self._outcomes})
        self.classifiers, self.regressors, self.examination = classifiers, regressors, examination
        self.calibration = Calibration.none(log.contract.targets)
        numbers = tf.constant(rounded(log.content["numbers"]))
        catalogue = Catalogue(numbers, tf.constant(log.content["categories"]), numbers)
        self._features = tf.function(partial(catalogue_features, log.contract, catalogue=catalogue), autograph=False)

    def _outcomes(self, inputs: Arrays) -> Arrays:
        items = inputs["candidates"]
        rows = feature_rows(self.log, inputs, items)
        outputs = self._chances(rows, np.repeat(inputs["lengths"], items.shape[1]))
        for name, model in self.regressors.items():
            size = self.calibration.values.get(name, IDENTITY)(model.predict(rows).astype(np.float64))
            outputs[name] = np.exp(size) * self.log.contract.value_scales[name]
        return {name: column.reshape(items.shape).astype(np.float32) for name, column in outputs.items()}

    def _chances(self, rows: Floats, lengths: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Calibrated chances of rows [R] with histories of these lengths [R], by target; a constant stays as it is."""
        raw = np.stack([model.predict_proba(rows)[:, 1] for model in self.classifiers.values()], axis=1)
        lines = sigmoid(self.calibration.apply(logits_of(raw), lengths).astype(np.float64))
        return {
            name: raw[:, i] if isinstance(model, Constant) else lines[:, i]
            for i, (name, model) in enumerate(self.classifiers.items())
        }

    def _retrieve(self, inputs: Arrays) -> Arrays:
        """The best items by the objective; equal ones in the order of their ids."""
        contract, size = self.log.contract, self.log.contract.retrieval_size
        past = _past(inputs)
        found = np.empty((len(inputs["state"]), size), np.int32)
        scores = np.empty(found.shape, np.float32)
        allowed = np.broadcast_to(inputs["allowed"], (len(found), contract.items))
        columns = zip(*past.events, past.ages[:, 0], past.valid, past.exposures, strict=True)
        for place, history in enumerate(columns):
            features, alike = _distinct(self._features(*history).numpy())
            context = np.broadcast_to(inputs["context"][place], (len(features), len(contract.fields)))
            rows = _beside(features, context, np.ones(len(features)))
            chances = self._chances(rows, np.full(len(rows), inputs["lengths"][place]))
            value = np.sum([weight * chances[name] for name, weight in contract.objective.items()], axis=0)
            value = np.where(allowed[place], value[alike], -np.inf)
            found[place] = np.argsort(-value, kind="stable")[:size]
            scores[place] = value[found[place]]
        return {"items": found, "scores": scores}


@dataclass(frozen=True, slots=True)
class Constant:
    """What says the same of every row: a chance, or the log of an amount in units of its scale."""

    number: float

    def predict(self, rows: Floats) -> Floats:
        """The number for each row, [R]."""
        return np.full(len(rows), self.number, np.float32)

    def predict_proba(self, rows: Floats) -> Floats:
        """Chances of no and of yes, [R, 2]."""
        return np.tile(np.array([1 - self.number, self.number], np.float32), (len(rows), 1))


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
    classifiers, regressors = {}, {}
    for i, name in enumerate(log.contract.targets):
        columns = (learn.labels[:, i], learn.weights[:, i], check.labels[:, i], check.weights[:, i])
        classifiers[name] = _grown(HistGradientBoostingClassifier, log.contract, config, x, x_check, *columns)
    for i, name in enumerate(log.contract.values):
        scale = log.contract.value_scales[name]
        columns = (*_amounts(learn.values[:, i], scale), *_amounts(check.values[:, i], scale))
        regressors[name] = _grown(HistGradientBoostingRegressor, log.contract, config, x, x_check, *columns)
    trees = Trees(log, classifiers, regressors, _examination(classifiers, x, learn.shown, config.seed))
    if len(check):
        trees.calibration, _ = calibrate(log, trees.functions, check, trees.examination)
    return trees


def training_rows(log: Log, decisions: Decisions) -> Floats:
    """Features [R, K + F + 1] of decisions as they were at the time: features, context, the place shown."""
    scorer, popularity = Scorer(log, {"encode": _encode}), Popularity(log)
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


def feature_rows(
    log: Log,
    inputs: Arrays,
    items: NDArray[np.int32],
    popularity: Floats | None = None,
    shown: NDArray[np.int32] | None = None,
) -> Floats:
    """Features of candidates [B, C], one row each, [B * C, K + F + 1], by the function the networks call.

    ``inputs`` are those of ``score`` but the candidates. ``popularity`` [B, C] replaces the final one; ``shown`` [B, C]
    are places, the first where it is left out.
    """
    contract, content = log.contract, log.content
    numbers = rounded(content["numbers"])[items]  # [B, C, 3]
    if popularity is not None:
        numbers[..., POPULARITY] = popularity
    past = _past(inputs)
    scene = np.repeat(inputs["context"], items.shape[1], axis=0)
    candidates = Candidates(tf.constant(items), tf.constant(numbers), tf.constant(numbers), scene)
    features = decision_features(contract, past, candidates, tf.constant(content["categories"])).numpy()
    places = np.ones(items.size) if shown is None else shown.ravel()
    return _beside(features.reshape(items.size, -1), scene, places)


def rounded(numbers: Floats) -> Floats:
    """Numbers [V, 3] with prices to a twentieth of their standard deviation, so that many items are alike to trees."""
    return np.concatenate([np.round(numbers[:, :1] * 20) / 20, numbers[:, 1:]], axis=1)


def _encode(inputs: Arrays) -> Arrays:
    events = Events.of({name: tf.constant(array) for name, array in inputs.items()})
    return {"state": pack_tail(events.items, events.types, events.ages, events.exposures).numpy()}


def _past(inputs: Arrays) -> Past:
    state, lengths, since = (tf.constant(inputs[name]) for name in ("state", "lengths", "since"))
    return Past.whole(state, lengths, since)


def _beside(features: Floats, context: NDArray[np.int32], places: NDArray[Any]) -> Floats:
    # An item whose place nobody knows counts as shown first, as it does for the networks.
    return np.column_stack([features, context, np.maximum(places, 1)]).astype(np.float32)


def _distinct(features: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The distinct rows of the features [V, K] of a catalogue, and which of them each item has [V].

    Most items have nothing to do with a history, and trees are too slow to be asked about each of them.
    """
    whole = np.ascontiguousarray(features).view(np.dtype((np.void, features.itemsize * features.shape[1])))[:, 0]
    _, first, alike = np.unique(whole, return_index=True, return_inverse=True)
    return features[first], alike


def _amounts(values: Floats, scale: float) -> tuple[Floats, Floats]:
    """Logs of amounts in units of their scale, and weights: 0 where they are not known or not positive."""
    known = np.isfinite(values) & (values > 0)
    return np.log(np.where(known, values / scale, 1.0)).astype(np.float32), known.astype(np.float32)


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
