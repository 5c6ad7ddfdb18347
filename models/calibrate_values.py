"""Calibrating sizes: a straight line from the log of what a network forecasts to the log of what comes.

Where values are few, a network's forecasts differ more from each other than what happens does: they say too much. A
slope below 1 draws them together, by as much as pays on users that it was not fitted on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration import LEAST_SLOPE, Line
from models.losses import SMOOTH
from models.metrics import Floats

#: Values by which a line may be fitted.
FEW = 50
#: Rounds of reweighting at most.
ROUNDS = 100


def fit_value(expected: Floats, found: Floats, fold: NDArray[Any]) -> tuple[Line | None, dict[str, Any]]:
    """A line for one value, or None where it does not forecast better.

    Args:
        expected, found: what the network forecasts, and what came, [R]; only rows where both are positive count.
        fold: of each row [R]; each fold is forecast by what was fitted on the others.

    Returns:
        the line of all rows, where it beats no line by more than a standard error of the mean log error (see
        losses.log_error) over rows of unseen users; and ``rows``; ``before`` and ``cross-fitted``: that error without
        and with it; ``mean over forecast``: how much more comes in the mean than is forecast, which is the middle
        (the smearing factor of Duan 1983).
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
    before, after = log_errors(y - x), log_errors(y - unseen)
    report |= {"before": float(before.mean()), "cross-fitted": float(after.mean())}
    gain = before - after
    if gain.mean() <= gain.std() / np.sqrt(len(gain)):
        return None, report | {"mean over forecast": float(np.exp(y - x).mean())}
    shift, slope = _fit(x, y)
    report["mean over forecast"] = float(np.exp(y - shift - slope * x).mean())
    return Line((0.0, 1.0), (shift, shift + slope)), report | {"slope": slope}


def log_errors(errors: Floats) -> Floats:
    """What errors of a log [R] cost, each, as in training."""
    return np.asarray(np.sqrt(errors**2 + SMOOTH**2) - SMOOTH)


def _fit(x: Floats, y: Floats) -> tuple[float, float]:
    """Shift and slope of least cost, by iteratively reweighted least squares; the slope at least LEAST_SLOPE."""
    columns = np.stack([np.ones_like(x), x - x.mean()], axis=1)
    line = np.array([x.mean(), 1.0])  # the line that changes nothing
    for _ in range(ROUNDS):
        weight = 1 / np.sqrt((y - columns @ line) ** 2 + SMOOTH**2)
        bend = columns.T @ (columns * weight[:, None]) + np.eye(2) * 1e-9 * len(x)
        step = np.linalg.solve(bend, columns.T @ (weight * (y - columns @ line)))
        line = line + step
        if np.abs(step).max() < 1e-7:
            break
    slope = max(float(line[1]), LEAST_SLOPE)
    return float(line[0] - slope * x.mean()), slope
