"""A second opinion on items that a user has not met: a linear model's, stacked on the network's where that helps.

What a user comes back to, the network orders better than anybody. Of all else it has learned much by heart, and a
linear model of the same history errs in other ways: together, weighed on rows that neither has learned from (stacking,
Wolpert 1992), they tell better what will be clicked and bought. docs/decisions/0027 has figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.calibrate import choose, folds_of
from models.calibration import Calibration
from models.calibrators import Rows, fit_slopes
from models.contract import Contract
from models.decisions import Decisions
from models.encode import Arrays
from models.log import Log
from models.metrics import Floats, log_losses
from models.network import Network
from models.past import Candidates, Catalogue, Events, Past

Tensor = Any

#: What leaves the network's logit as it is: its weight, that of the second opinion, and a shift.
ALONE = (1.0, 0.0, 0.0)
#: Yes and no answers about items not met that weights are fitted to: ten for each of them (Peduzzi et al. 1996).
FEWEST = 10 * len(ALONE)


class Stack(Network):
    """A network whose targets' logits are weighed with another's, for candidates that are not in the history.

    Everything else, retrieval among it, is the first's. Nothing is learned here; :func:`weigh` fits ``shares``.

    Args:
        first: any network; ``second`` one that asks a state for nothing but its tail.
        lines: the calibrations of both, for it is calibrated logits that are weighed.
    """

    def __init__(
        self,
        contract: Contract,
        content: Arrays,
        first: Network,
        second: Network,
        lines: tuple[Calibration, Calibration],
    ) -> None:
        super().__init__(contract, content, negatives=0, retrieval_weight=first.retrieval_weight)
        self.first, self.second, self.state_width = first, second, first.state_width
        self.line, self.second_line = lines
        self.shares = self.add_weight(
            name="shares", shape=(len(ALONE), len(contract.targets)), initializer=_alone, trainable=False
        )

    @property
    def by_vector(self) -> bool:
        """As the first."""
        return self.first.by_vector

    def catalogue_scores(self, past: Past, context: Tensor, catalogue: Catalogue) -> Tensor:
        """The first's."""
        return self.first.catalogue_scores(past, context, catalogue)

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """The first's."""
        return self.first.item_vectors(items, categories, numbers)

    def encode(self, events: Events, vectors: Tensor, shown: Tensor, training: bool = False) -> Tensor:
        """The first's."""
        return self.first.encode(events, vectors, shown, training)

    def query(self, past: Past, context: Tensor) -> Tensor:
        """The first's."""
        return self.first.query(past, context)

    def copy_weights(self, past: Past) -> Tensor:
        """The first's."""
        return self.first.copy_weights(past)

    def examined(self) -> Tensor:
        """The first's."""
        return self.first.examined()

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """Calibrated logits of the targets, weighed, and the first's of the values, [B, D, targets + values]."""
        targets, lengths = len(self.contract.targets), tf.reduce_sum(tf.cast(past.valid, tf.int32), axis=1)
        first, second = (n.score(past, candidates, categories, training) for n in (self.first, self.second))
        own, other = self.line(first[..., :targets], lengths), self.second_line(second[..., :targets], lengths)
        weight, opinion, shift = tf.unstack(tf.convert_to_tensor(self.shares))
        met = tf.reduce_any((past.events[0][:, None] == candidates.items[..., None]) & past.visible, axis=-1)
        weighed = tf.where(met[..., None], own, weight * own + opinion * other + shift)
        return tf.concat([weighed, first[..., targets:]], axis=-1)


def met(log: Log, decisions: Decisions) -> NDArray[np.bool_]:
    """Whether the item of each decision [R] is among the events that the state holds."""
    end = log.offsets[decisions.user] + decisions.before
    start = np.maximum(end - log.contract.history_length, log.offsets[decisions.user])
    rows = zip(start.tolist(), end.tolist(), decisions.items.tolist(), strict=True)
    return np.fromiter((item in log.items[a:b] for a, b, item in rows), np.bool_, len(decisions))


def weigh(
    targets: Sequence[str], own: Floats, other: Floats, decisions: Decisions, looks: Floats, known: NDArray[np.bool_]
) -> tuple[Floats, dict[str, dict[str, Any]]]:
    """Weights [3, T] of the network's calibrated logits [R, T], of the other's, and a shift; and by target how they
    were chosen.

    Fitted by greatest likelihood to the decisions that are not about ``known`` items [R]; a target keeps ALONE unless
    users whose rows were not fitted to are told better by more than a standard error.

    Args:
        looks: chance that the place of each row was looked at [R], 1 where no place is known.
    """
    weights = np.tile(np.array(ALONE)[:, None], len(targets))
    report: dict[str, dict[str, Any]] = {}
    for t, target in enumerate(targets):
        asked = (decisions.weights[:, t] > 0) & ~known
        columns = np.stack([own[asked, t], other[asked, t]], axis=1).astype(np.float64)
        labels, users = decisions.labels[asked, t].astype(np.float64), decisions.user[asked]
        rows = Rows(columns[:, 0], labels, looks[asked].astype(np.float64), users)
        report[target] = {"stacked": False, "rows": len(rows), "positives": int(labels.sum())}
        fold = folds_of(users)
        if min((rows.take(fold != number).scarcer() for number in np.unique(fold)), default=0) < FEWEST:
            continue
        guesses = {"alone": columns[:, 0], "stacked": _cross_fitted(columns, rows, fold)}
        losses = {name: float(log_losses(labels, rows.chances(guess)).mean()) for name, guess in guesses.items()}
        report[target] |= {"stacked": choose(rows, guesses) == "stacked", "logloss": losses}
        if report[target]["stacked"]:
            weights[:, t] = fit_slopes(columns, rows)
    return weights, report


def _cross_fitted(columns: Floats, rows: Rows, fold: NDArray[np.int64]) -> Floats:
    """Weighed logits [R] of each fold of users, by weights that were fitted to the others."""
    found = np.empty(len(rows))
    for number in np.unique(fold):
        here, there = fold == number, fold != number
        *slopes, shift = fit_slopes(columns[there], rows.take(there))
        found[here] = columns[here] @ np.array(slopes) + shift
    return found


def _alone(shape: tuple[int, int], dtype: Any = None) -> Tensor:
    return tf.broadcast_to(tf.constant(ALONE, dtype)[:, None], shape)
