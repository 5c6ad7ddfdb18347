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

from models.calibrate import logits_of
from models.calibration import IDENTITY, Calibration
from models.calibrators import sigmoid
from models.contract import POPULARITY
from models.encode import Arrays
from models.features import catalogue_features, decision_features
from models.log import Log
from models.matches import pack_tail
from models.past import Candidates, Catalogue, Events, Past
from models.scoring import Scorer

Floats = NDArray[np.float32]


class Trees(Scorer):
    """One boosted classifier a target and one regressor (absolute error of the log) a value.

    Where an item was shown is a feature in training. Scores are at the first place; ``examination`` [positions] says
    how the chance of a yes falls with the place, so that both are used as a network's are.
    """

    def __init__(
        self, log: Log, classifiers: Mapping[str, Any], regressors: Mapping[str, Any], examination: Floats
    ) -> None:
        super().__init__(log, {"encode": encode, "retrieve": self._retrieve, "score": self._outcomes})
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


def encode(inputs: Arrays) -> Arrays:
    """The state of a history: its tail alone, for features need no more."""
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
