"""Ways to calibrate one target's logits, each a fit of a rising :class:`~models.calibration.Line` to rows.

All see ``q = look * sigmoid(line(logit))``: what happens at a place that is looked at with a chance ``look`` (see
Network.examined), so that the line is about the neutral place that serving answers for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import isotonic_regression

from models.calibration import IDENTITY, KNOTS, LEAST_SLOPE, Line
from models.metrics import Floats, expected_calibration_error, log_losses

#: What a knot of the isotonic line rests on, in units of Fisher information: its logit has a standard error of .2.
INFORMATION = 25.0
#: Logits closer than this (after Platt's line) are not told apart by the isotonic line, so that it has no cliffs.
STEP = 0.1
#: Pull of Platt's and beta's numbers towards the identity, in the same units: it only keeps them finite.
PULL = 0.01


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one target: logits, labels (0 or 1), the chance that the place was looked at, and users, each [R]."""

    logits: Floats
    labels: Floats
    looks: Floats
    users: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.logits)

    def take(self, index: Any) -> Rows:
        """The rows at ``index`` (positions or a mask)."""
        return Rows(self.logits[index], self.labels[index], self.looks[index], self.users[index])

    def scarcer(self) -> int:
        """How often the rarer of yes and no occurs."""
        yes = int(self.labels.sum())
        return min(yes, len(self) - yes)

    def chances(self, logits: Floats) -> Floats:
        """Probabilities at the places where the rows were shown, of calibrated neutral logits [R]."""
        return np.asarray(self.looks * sigmoid(logits))

    def quality(self, logits: Floats) -> dict[str, float]:
        """Mean log loss and calibration error under calibrated logits [R]."""
        q = self.chances(logits)
        loss = float(log_losses(self.labels, q).mean())
        return {"logloss": loss, "ece": expected_calibration_error(self.labels, q)}


def identity(rows: Rows) -> Line:
    """Nothing changes."""
    return IDENTITY


def platt(rows: Rows) -> Line:
    """A straight line a * z + b of greatest likelihood (Platt 1999); with b = 0 it would be a temperature."""
    slope, shift = _platt(rows)
    return Line((0.0, 1.0), (shift, shift + slope))


def beta(rows: Rows) -> Line:
    """Beta calibration (Kull et al. 2017): a * log p - b * log(1 - p) + c, one slope below p = 1/2 and one above.

    Drawn by points every quarter of a logit between -8 and 8, within .002 |a - b| of the curve; beyond it is straight.
    """
    a, b, c = fit_slopes(np.stack(_log_odds(rows.logits), axis=1), rows)
    x = np.linspace(-8.0, 8.0, KNOTS)
    low, high = _log_odds(x)
    return Line(tuple(x.tolist()), tuple((a * low + b * high + c).tolist()))


def isotonic(rows: Rows) -> Line:
    """Isotonic regression (Zadrozny & Elkan 2002) of label / look with weight look, drawn through its bins' centres.

    The weights make it inverse propensity weighting: a block's rate is its yes over its looks. Rows are first put into
    at most KNOTS - 2 bins that tell their logits equally well (equal Fisher information under Platt's line), so that
    bins are fine where answers are mixed. Each bin starts with one look at the rate of all, so that no rate is 0, nor
    1 (Laplace); the rate over looks, which may exceed 1, is held half a look short of it. Beyond the outer bins the
    line has Platt's slope.
    """
    slope, shift = _platt(rows)
    grid, place = np.unique(np.round((slope * rows.logits + shift) / STEP), return_inverse=True)
    information = np.bincount(place, _information(STEP * grid[place], rows.looks))
    count = int(np.clip(information.sum() / INFORMATION, 1, KNOTS - 2))
    middle = (np.cumsum(information) - information / 2) / information.sum()
    bins = np.unique((middle * count).astype(int), return_inverse=True)[1][place]
    looks, yes = np.bincount(bins, rows.looks), np.bincount(bins, rows.labels)
    rate = np.minimum((yes + yes.sum() / looks.sum()) / (looks + 1), 1 - 0.5 / (looks + 1))
    heights = isotonic_regression(rate, sample_weight=looks + 1)
    x = STEP * np.bincount(bins, rows.looks * grid[place]) / looks
    y = np.log(heights) - np.log1p(-heights)
    x, y = (np.concatenate([[v[0] - 1], v, [v[-1] + 1]]) for v in (x, y))
    return rising((x - shift) / slope, y)


#: From simple to flexible.
METHODS: Mapping[str, Callable[[Rows], Line]] = {
    "identity": identity,
    "platt": platt,
    "beta": beta,
    "isotonic": isotonic,
}


def rising(x: Floats, y: Floats) -> Line:
    """The line through points of which some may lie too low for LEAST_SLOPE; those are lifted."""
    lifted = np.maximum.accumulate(y - LEAST_SLOPE * x) + LEAST_SLOPE * x
    return Line(tuple(x.tolist()), tuple(lifted.tolist()))


def fit_slopes(columns: Floats, rows: Rows) -> Floats:
    """Slopes of the columns [R, N] and a shift [N + 1] of greatest likelihood, no slope below LEAST_SLOPE.

    A slope that would be less is set to it, and the others are fitted again (as Kull et al. do).
    """
    free = np.ones(columns.shape[1] + 1, bool)
    start = np.append(np.ones(columns.shape[1]), 0.0)
    design = np.column_stack([columns, np.ones(len(columns))])
    found = _score_steps(design, rows, start, free)
    while (found[:-1] < LEAST_SLOPE)[free[:-1]].any():
        low = np.append(found[:-1] < LEAST_SLOPE, False) & free
        start, free = np.where(low, LEAST_SLOPE, start), free & ~low
        found = _score_steps(design, rows, start, free)
    return found


def _score_steps(design: Floats, rows: Rows, start: Floats, free: NDArray[np.bool_]) -> Floats:
    """Fisher scoring with halved steps from ``start``, of the ``free`` numbers alone."""

    def loss(numbers: Floats) -> float:
        q = rows.chances(design @ numbers)
        return float(log_losses(rows.labels, q).sum() + PULL / 2 * ((numbers - start) ** 2).sum())

    numbers, now, open_design = start.copy(), loss(start), design[:, free]
    for _ in range(50):
        z = design @ numbers
        q = rows.chances(z)
        slope = (rows.labels - q) * _unlikely(z, rows.looks)
        bend = (open_design * _information(z, rows.looks)[:, None]).T @ open_design + PULL * np.eye(int(free.sum()))
        step = np.zeros(len(start))
        step[free] = np.linalg.solve(bend, open_design.T @ slope - PULL * (numbers - start)[free])
        while (then := loss(numbers + step)) > now and np.abs(step).max() > 1e-9:
            step /= 2
        if then > now or np.abs(step).max() < 1e-7:
            break
        numbers, now = numbers + step, then
    return numbers


def sigmoid(logits: Floats) -> Floats:
    """1 / (1 + exp(-z)), any shape, without overflow."""
    return np.asarray(1 / (1 + np.exp(np.minimum(-logits, 700.0))))


def _platt(rows: Rows) -> tuple[float, float]:
    slope, shift = fit_slopes(rows.logits[:, None], rows)
    return float(slope), float(shift)


def _log_odds(logits: Floats) -> tuple[Floats, Floats]:
    """log p and -log(1 - p) of p = sigmoid(logit)."""
    return -np.logaddexp(0.0, -logits), np.logaddexp(0.0, logits)


def _unlikely(logits: Floats, looks: Floats) -> Floats:
    """(1 - s) / (1 - look * s) with s = sigmoid(logit); 1 where everything is looked at, however large the logit."""
    no = sigmoid(-logits)
    return np.asarray(no / (no + (1 - looks) * (1 - no)))


def _information(logits: Floats, looks: Floats) -> Floats:
    """Fisher information of each row about its logit: (dq / dz)^2 / (q (1 - q)) with q = look * sigmoid(z)."""
    return np.asarray(looks * sigmoid(logits) * sigmoid(-logits) * _unlikely(logits, looks))
