"""What every model is set against: counts and means of the training time, and the truth of simulated data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract import FIRST
from models.decisions import Decisions
from models.log import Log
from models.metrics import Floats
from models.questions import Questions
from models.scoring import Contender, Scorer, at_position

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Answers:
    """One contender's answers to :class:`Questions`; None where it has none.

    Attributes:
        scores: for every decision and target [R, T], at the place where the item was shown.
        calibrated: whether the scores are probabilities.
        matched: scores of the matched decisions.
        places: 1-based place of every decision on its page [R, T], the most probable first; see :meth:`placed`.
        values: expected values of every decision [R, N].
        ranks: of every move [M, 1 + T]: over the whole catalogue, then in the order for each target.
    """

    scores: Floats | None = None
    calibrated: bool = True
    matched: Floats | None = None
    values: Floats | None = None
    ranks: Rows | None = None
    places: Rows | None = None

    def placed(self, pages: Rows) -> Answers:
        """With the place of each decision among those of its page [R], for each target; equal scores as they stand."""
        if self.scores is None:
            return self
        starts = np.append(0, np.cumsum(np.bincount(pages)))
        places = np.empty(self.scores.shape, np.int64)
        for target, column in enumerate(self.scores.T):
            order = np.lexsort((-column, pages))
            places[order, target] = 1 + np.arange(len(order)) - starts[pages[order]]
        return replace(self, places=places)

    def select(self, decisions: Any, matched: Any, moves: Any) -> Answers:
        """The answers at some decisions, matched decisions and moves (masks)."""
        rows = ((self.scores, decisions), (self.matched, matched), (self.values, decisions), (self.ranks, moves))
        scores, close, values, ranks = (None if column is None else column[mask] for column, mask in rows)
        places = None if self.places is None else self.places[decisions]
        return Answers(scores, self.calibrated, close, values, ranks, places)


def answers_of(
    contender: Contender, questions: Questions, examination: NDArray[np.float32] | None, **advance: Any
) -> Answers:
    """The answers of a contender.

    Args:
        examination: chance that each place is looked at [positions], which its neutral probabilities are multiplied
            with; None for a contender that knows of no places.
        advance: handed on to ``score``.
    """
    scored = contender.score(questions.decisions, **advance)
    shown = questions.decisions.shown
    scores = scored.probabilities if examination is None else at_position(scored.probabilities, shown, examination)
    if isinstance(contender, Scorer):
        ranks = contender.ranks_by_target(questions.moves)
    else:  # its order is the same for every target
        ranks = np.repeat(contender.ranks(questions.moves)[:, None], 1 + scores.shape[1], axis=1)
    matched = contender.score(questions.matched).probabilities if questions.matched else None
    return Answers(scores, True, matched, scored.values, ranks)


def popularity(log: Log, questions: Questions, before: float) -> Answers:
    """Count how often the item had the target in training; rank by that, and by all events for the whole catalogue."""
    past = log.at < before
    columns = [log.items[past & (log.types == log.contract.type_id(name))] for name in log.contract.targets]
    counts = np.stack([np.bincount(items, minlength=log.contract.items) for items in columns], axis=1)  # [V, T]
    total = np.bincount(log.items[past], minlength=log.contract.items)
    ranks = np.stack([_ranks(column) for column in (total, *counts.T)], axis=1)  # [V, 1 + T]
    return Answers(
        scores=counts[questions.decisions.items],
        calibrated=False,
        matched=counts[questions.matched.items] if questions.matched else None,
        ranks=ranks[questions.moves.items],
    )


def item_mean(log: Log, questions: Questions, before: float) -> Answers:
    """Predict each value by the item's mean in training, or the mean of all where it has none."""
    return Answers(values=_means(log, questions.decisions, before, log.items, questions.decisions.items))


def user_mean(log: Log, questions: Questions, before: float) -> Answers:
    """Predict each value by the user's mean in training, or the mean of all where the user has none."""
    user = np.repeat(np.arange(len(log.users)), np.diff(log.offsets))
    return Answers(values=_means(log, questions.decisions, before, user, questions.decisions.user))


def oracle(questions: Questions) -> Answers:
    """The true probabilities of simulated data."""
    return Answers(scores=questions.decisions.truth)


def _means(log: Log, decisions: Decisions, before: float, groups: NDArray[Any], asked: NDArray[Any]) -> Floats:
    """Training means of each value over the events of a group [E], for the groups asked for [R], [R, N]."""
    size = int(max(groups.max(initial=0), asked.max(initial=0))) + 1
    columns = []
    for name in log.contract.values:
        carrier = next(b.name for b in log.contract.behaviours if b.value == name)
        past = (log.at < before) & np.isfinite(log.values) & (log.types == log.contract.type_id(carrier))
        sums, counts = np.bincount(groups[past], log.values[past], size), np.bincount(groups[past], minlength=size)
        overall = sums.sum() / max(counts.sum(), 1)
        columns.append(np.where(counts > 0, sums / np.maximum(counts, 1), overall)[asked])
    return np.stack(columns, axis=1) if columns else np.zeros((len(decisions), 0))


def _ranks(counts: NDArray[np.int64]) -> Rows:
    """The 1-based rank of each item [V] by its count; equal counts in the order of ids."""
    order = np.argsort(-np.where(np.arange(len(counts)) < FIRST, -1, counts), kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = 1 + np.arange(len(order))
    return ranks
