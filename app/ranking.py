"""From outcomes to an order: pure numpy functions of their arguments.

Shapes: n candidates, each with a score, a group (its finest category) and, beside them, probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: A group of its own: an item without a category is like no other.
NO_GROUP = -1


def objective_scores(outcomes: Mapping[str, NDArray[Any]], weights: Mapping[str, float]) -> Floats:
    """Sum of weight * probability, shape [n], of n candidates. ``outcomes`` maps each target to shape [n]."""
    total: Floats = np.zeros(len(next(iter(outcomes.values()))), np.float64)
    for target, weight in weights.items():
        total += weight * outcomes[target].astype(np.float64)
    return total


def rank(
    scores: Floats,
    k: int,
    *,
    groups: Indices | None = None,
    diversity: float = 0.0,
    exploration: float = 0.0,
    random: np.random.Generator | None = None,
) -> tuple[Indices, Floats]:
    """Choose and order at most k of n candidates.

    Args:
        scores: shape [n], any sign.
        k: at least 1.
        groups: shape [n], needed for diversity: the finest category of each; NO_GROUP is never discounted.
        diversity: 0..1; every item already chosen from a group discounts the next one of it by this share.
        exploration: 0..1; temperature of a Plackett-Luce order. 0 is deterministic; at 1 an item comes first
            with a probability proportional to its score.
        random: needed for exploration.

    Returns:
        Indices of the chosen, best first, and their discounted scores. Without exploration these never rise;
        ties keep the order of the candidates.
    """
    keys = scores
    if exploration > 0.0 and random is not None:
        keys = perturb(scores, exploration, random)
    if diversity > 0.0 and groups is not None:
        order, times = diversify(keys, groups, diversity, k)
        return order, discount(scores[order], diversity, times)
    order = np.argsort(-keys, kind="stable")[:k]
    return order, scores[order]


def perturb(scores: Floats, temperature: float, random: np.random.Generator) -> Floats:
    """Positive keys, shape [n]: their falling order is a Plackett-Luce draw, weights score ** (1 / temperature).

    exp(log(score) + temperature * Gumbel); scores below zero are first lifted to just above it.
    """
    if not len(scores):
        return scores
    lifted = scores - min(0.0, float(scores.min()))
    lifted = np.maximum(lifted, max(1e-9 * float(lifted.max()), 1e-300))
    return lifted * np.exp(temperature * random.gumbel(size=len(scores)))


def diversify(keys: Floats, groups: Indices, diversity: float, k: int) -> tuple[Indices, Indices]:
    """Greedy re-ranking: again and again the best key after the discount for those chosen of its group.

    Returns the order, shape [min(k, n)], and how many of the same group came before each.
    """
    current = keys.astype(np.float64, copy=True)
    chosen: list[int] = []
    times: list[int] = []
    taken: dict[int, int] = {}
    for _ in range(min(k, len(keys))):
        best = int(np.argmax(current))
        group = int(groups[best])
        before = taken.get(group, 0) if group != NO_GROUP else 0
        chosen.append(best)
        times.append(before)
        current[best] = -np.inf
        if group != NO_GROUP:
            taken[group] = before + 1
            rest = (groups == group) & np.isfinite(current)
            current[rest] = discount(keys[rest], diversity, before + 1)
    return np.array(chosen, np.int64), np.array(times, np.int64)


def discount(scores: Floats, diversity: float, times: Indices | int) -> Floats:
    """score * (1 - diversity) ** times; a score below zero goes down by the same amount, never up."""
    lost: Floats = np.abs(scores) * (1.0 - (1.0 - diversity) ** np.asarray(times, np.float64))
    return scores - lost
