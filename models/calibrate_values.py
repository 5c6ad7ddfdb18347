"""Calibrating expected sizes: a straight line from the log of what a network expects to the log of what comes.

Where values are few, a network's expectations differ more from each other than what happens does: they say too much. A
slope below 1 draws them together, by as much as pays on users that it was not fitted on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import LEAST_SLOPE, Line
from models.losses import STEEP
from models.metrics import Floats

#: Values by which a line may be fitted.
FEW = 50
#: Newton's rounds at most; a few are enough.
ROUNDS = 50


def fit_value(expected: Floats, found: Floats, fold: NDArray[Any]) -> tuple[Line | None, dict[str, Any]]:
    """A line for one value, or None where it does not forecast better.

    Args:
        expected, found: what the network expects, and what came, [R]; only rows where both are positive count.
        fold: of each row [R]; each fold is forecast by what was fitted on the others.

    Returns:
        the line of all rows, where it beats no line by more than a standard error of the mean gamma deviance (see
        losses.gamma_deviance) over rows of unseen users; and ``rows``, and ``before`` and ``cross-fitted``: that
        deviance without and with it.
    """
    known = np.isfinite(found) & (found > 0) & (expected > 0)
    x, y, fold = np.log(expected[known].astype(np.float64)), np.log(found[known].astype(np.float64)), fold[known]
    report: dict[str, Any] = {"rows": len(x)}
    if len(x) < FEW or len(np.unique(fold)) < 2:
        return None, report
    unseen = np.empty(len(x))
    for number in np.unique(fold):
        shift, slope = _fit(x[fold != number], y[fold != number])
        unseen[fold == number] = shift + slope * x[fold == number]
    before, after = deviance(y - x), deviance(y - unseen)
    report |= {"before": float(before.mean()), "cross-fitted": float(after.mean())}
    gain = before - after
    if gain.mean() <= gain.std() / np.sqrt(len(gain)):
        return None, report
    shift, slope = _fit(x, y)
    return Line((0.0, 1.0), (shift, shift + slope)), report | {"slope": slope}


def deviance(log_ratio: Floats) -> Floats:
    """Half the gamma deviance of logs of (found / expected) [R], beyond STEEP as a line, as in training."""
    steep = np.exp(np.minimum(log_ratio, STEEP)) * (1 + np.maximum(log_ratio - STEEP, 0))
    return np.asarray(steep - log_ratio - 1)


def _fit(x: Floats, y: Floats) -> tuple[float, float]:
    """Shift and slope of least deviance, by Newton's method; the slope at least LEAST_SLOPE."""
    columns = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    rest, line = y - x.mean(), np.array([0.0, 1.0])  # the line that changes nothing
    for _ in range(ROUNDS):
        ratio = rest - columns @ line
        grown = np.exp(np.minimum(ratio, STEEP))
        bend = columns.T @ (columns * np.where(ratio < STEEP, grown, 0.0)[:, None]) + np.eye(2) * 1e-6 * len(x)
        step = np.linalg.solve(bend, columns.T @ (grown - 1.0))
        while deviance(rest - columns @ (line + step)).sum() > deviance(ratio).sum() and np.abs(step).max() > 1e-9:
            step = step / 2
        line = line + step
        if np.abs(step).max() < 1e-7:
            break
    slope = max(float(line[1]), LEAST_SLOPE)
    return float(x.mean() + line[0] - slope * x.mean()), slope
