"""How sure a metric is: the bootstrap over users.

Rows of one user depend on each other, so users are drawn with replacement, not rows (the cluster bootstrap, Davison &
Hinkley 1997, section 3.8). Every metric is computed under the *same* draws, so the difference of two contenders has an
interval of its own, which is narrower than theirs where both err on the same users (the paired bootstrap).

All is matrix products: a metric is a function of sums over rows, sums over rows are sums over users, and 1,000 draws of
users are one matrix of how often each was drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.metrics import BINS, Floats, quantile_bins

#: Bins of scores in a resampled AUC; within one, pairs count as ties. The intervals are centred on the exact AUC.
AUC_BINS = 128
#: More users than this are drawn in groups, which bounds memory and changes nothing else.
GROUPS = 20_000
#: Two-sided confidence.
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """One metric: its value, and its value under each draw of users [B].

    Attributes:
        value: on the rows as they are.
        draws: NaN where a draw lacks what the metric needs (one class alone, say).
    """

    value: float
    draws: Floats

    def __sub__(self, other: Estimate) -> Estimate:
        """The difference under the same draws."""
        return Estimate(self.value - other.value, self.draws - other.draws)

    def apply(self, function: Callable[[Floats], Floats]) -> Estimate:
        """A function of the metric, applied to every draw as to the value."""
        return Estimate(float(function(np.asarray(self.value))), function(self.draws))

    def ratio(self, other: Estimate) -> Estimate:
        """The quotient under the same draws; NaN where the other is zero."""
        pairs = ((self.value, other.value), (self.draws, other.draws))
        value, draws = (_divide(np.asarray(a), np.asarray(b)) for a, b in pairs)
        return Estimate(float(value), draws)

    def interval(self) -> tuple[float, float]:
        """The draws' percentiles, moved so that their mean is the value.

        Moving takes out what resampling itself adds (a calibration error grows with the noise of a draw). Both ends are
        NaN where most draws have no value.
        """
        known = self.draws[np.isfinite(self.draws)]
        if not np.isfinite(self.value) or len(known) * 2 < len(self.draws) or not len(known):
            return float("nan"), float("nan")
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - known.mean() + self.value
        return float(low), float(high)


class Resamples:
    """The same draws of users for every metric.

    Args:
        users: the users to draw from, any whole numbers, repeated or not.
        samples: how many draws.
    """

    def __init__(self, users: NDArray[np.int64], samples: int = 1000, seed: int = 0) -> None:
        self._names = np.unique(users)
        self._size = min(len(self._names), GROUPS)
        rng = np.random.default_rng(seed)
        counts = np.empty((self._size, samples), np.float32)
        for draw in range(samples):
            chosen = rng.integers(0, self._size, self._size)
            counts[:, draw] = np.bincount(chosen, minlength=self._size)
        self._counts = counts  # [U, B]

    def first(self, samples: int) -> Resamples:
        """The first so many draws alone, for intervals that need not be as sharp."""
        fewer = copy(self)
        fewer._counts = self._counts[:, :samples]
        return fewer

    def mean(self, users: NDArray[np.int64], values: Floats) -> Estimate:
        """The mean of values [n] that belong to users [n]."""
        values = np.asarray(values, np.float64)
        totals = self._sums(users, np.zeros(len(users), np.int64), values, 1)[0]
        counts = self._sums(users, np.zeros(len(users), np.int64), None, 1)[0]
        return Estimate(float(values.mean()) if len(values) else float("nan"), _divide(totals, counts))

    def auc(self, users: NDArray[np.int64], labels: Floats, scores: Floats, value: float) -> Estimate:
        """The area under the ROC curve, whose exact ``value`` is known."""
        edges = np.unique(scores)[1:]
        if len(edges) >= AUC_BINS:
            edges = np.unique(np.quantile(scores, np.linspace(0, 1, AUC_BINS + 1)[1:-1]))
        bins, size = np.searchsorted(edges, scores, side="right"), len(edges) + 1  # equal scores share a bin
        positives = self._sums(users, bins, labels, size)
        negatives = self._sums(users, bins, 1.0 - labels, size)  # [K, B]
        beaten = np.cumsum(negatives, axis=0) - negatives / 2
        pairs = positives.sum(axis=0) * negatives.sum(axis=0)
        return Estimate(value, _divide((positives * beaten).sum(axis=0), pairs))

    def calibration_error(
        self, users: NDArray[np.int64], labels: Floats, probabilities: Floats, value: float
    ) -> Estimate:
        """The expected calibration error, whose ``value`` is known, over the bins of the rows as they are."""
        bins = quantile_bins(probabilities, BINS)
        gaps = self._sums(users, bins, labels - probabilities.astype(np.float64), BINS)
        counts = self._sums(users, bins, None, BINS)
        return Estimate(value, _divide(np.abs(gaps).sum(axis=0), counts.sum(axis=0)))

    def _sums(self, users: NDArray[np.int64], bins: NDArray[np.int64], values: Floats | None, size: int) -> Floats:
        """Sums of values (or counts) over the rows of each bin, under each draw, [size, B]."""
        group = np.searchsorted(self._names, users) % self._size
        by_user = np.bincount(bins * self._size + group, values, size * self._size).reshape(size, self._size)
        return by_user.astype(np.float32) @ self._counts


def _divide(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.full(below.shape, np.nan, np.float64), where=below != 0)
