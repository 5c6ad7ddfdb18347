"""Fitting a calibration: for every target and segment of history length the simplest line that forecasts well.

Candidates are identity, Platt scaling, beta calibration and isotonic regression (:mod:`models.calibrators`). Each is
judged by the log loss of rows of users it was not fitted on, and one is preferred to a simpler one only where it is
better by more than a standard error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibrate_values import fit_value
from models.calibration import SEGMENTS, Calibration, Line, segment_of
from models.calibrators import METHODS, Rows
from models.decisions import Decisions
from models.golden import Functions
from models.log import Log
from models.metrics import Floats, log_losses
from models.scoring import Advance, Scorer, looked_at

#: Parts that the users are divided into; each is forecast by what was fitted on the others.
FOLDS = 5
#: Yes and no answers that a bent line needs; with fewer of either there is only identity or Platt's straight one.
FEW = 100
#: The same for Platt's; with fewer a segment always uses the line of all, and a target stays as it is.
VERY_FEW = 10

Report = dict[str, dict[str, dict[str, Any]]]


def choose(rows: Rows, guesses: Mapping[str, Floats]) -> str:
    """The first of the methods (simplest first) that none after it beats by more than a standard error.

    Args:
        guesses: by method, calibrated logits [R] that were not fitted on the row's own user. The standard error is of
            the mean difference in log loss, over users, since a user's rows are alike.
    """
    names = list(guesses)
    best, losses = names[0], {name: log_losses(rows.labels, rows.chances(guesses[name])) for name in names}
    user = np.unique(rows.users, return_inverse=True)[1]
    for name in names[1:]:
        gain = losses[best] - losses[name]
        error = np.sqrt((np.bincount(user, gain - gain.mean()) ** 2).sum()) / len(rows)
        if gain.mean() > error:
            best = name
    return best


def fit_target(rows: Rows, segment: NDArray[np.int64]) -> tuple[list[Line], dict[str, dict[str, Any]]]:
    """A line for each segment of one target, and what was chosen and why; ``segment`` [R] says where each row belongs.

    A segment starts from the line of all rows (``shared``), and gets one of its own where that is better.
    """
    fold = folds_of(rows.users)
    everywhere = {name: _unseen(METHODS[name], rows, fold) for name in _affordable(rows, fold)}
    shared = choose(rows, everywhere) if len(rows) else "identity"
    line = METHODS[shared](rows)
    lines, report = [], {"all": {"method": shared, "rows": len(rows), "positives": int(rows.labels.sum())}}
    after, cross = rows.logits.copy(), rows.logits.copy()
    for number, name in enumerate(SEGMENTS):
        inside = segment == number
        part = rows.take(inside)
        guesses = {"shared": everywhere[shared][inside]}
        if part.scarcer() >= VERY_FEW:
            own = _affordable(part, fold[inside])
            guesses |= {method: _unseen(METHODS[method], part, fold[inside]) for method in own}
        method = choose(part, guesses) if len(part) else "shared"
        lines.append(line if method == "shared" else METHODS[method](part))
        after[inside], cross[inside] = lines[-1](part.logits), guesses[method]
        report[name] = {"method": method, "rows": len(part), "positives": int(part.labels.sum())}
        report[name] |= _qualities(part, after[inside], cross[inside])
    report["all"] |= _qualities(rows, after, cross)
    return lines, report


def fit_calibration(
    targets: Sequence[str],
    logits: Floats,
    labels: Floats,
    weights: Floats,
    looks: Floats,
    lengths: NDArray[Any],
    users: NDArray[Any],
) -> tuple[Calibration, Report]:
    """The calibration of R rows that were not trained on, and how it was chosen.

    Args:
        logits, labels, weights: of each target [R, T]; a weight of 0 says that the label is not known.
        looks: chance that the place of each row was looked at [R], 1 where no place is known.
        lengths: events in the state of each row [R], at most ``history_length``; users: whose row it is [R].

    Returns:
        the calibration, and by target and segment (and ``all``) the ``method``, ``rows``, ``positives`` and, under
        ``before``, ``after`` (on the very rows of the fit) and ``cross-fitted`` (each user by a fit without them),
        ``logloss`` and ``ece``.
    """
    lines, report, segment = {}, {}, segment_of(lengths)
    for t, target in enumerate(targets):
        known = weights[:, t] > 0
        rows = Rows(
            logits[known, t].astype(np.float64),
            labels[known, t].astype(np.float64),
            looks[known].astype(np.float64),
            users[known],
        )
        lines[target], report[target] = fit_target(rows, segment[known])
    return Calibration(lines), report


def calibrate(
    log: Log,
    functions: Functions,
    decisions: Decisions,
    examination: NDArray[np.float32],
    advance: Advance | None = None,
) -> tuple[Calibration, dict[str, Any]]:
    """:func:`fit_calibration` on what uncalibrated served functions say of ``decisions`` (never those of the test),
    and :func:`models.calibrate_values.fit_value`; reports by name under ``targets`` and ``values``.

    Args:
        examination: chance that each place is looked at [positions], see Network.examined.

    Raises:
        ValueError: there are no decisions.
    """
    if not len(decisions):
        raise ValueError("Nothing happened in the validation time, so there is nothing to calibrate on.")
    scored = Scorer(log, functions).score(decisions, advance)
    contract, fold = log.contract, folds_of(decisions.user)
    values, sizes = {}, {}
    for i, name in enumerate(contract.values):
        scale = contract.value_scales[name]
        line, sizes[name] = fit_value(scored.values[:, i] / scale, decisions.values[:, i] / scale, fold)
        if line is not None:
            values[name] = line
    lengths = np.minimum(decisions.before, log.contract.history_length)
    calibration, report = fit_calibration(
        contract.targets,
        logits_of(scored.probabilities),
        decisions.labels,
        decisions.weights,
        looked_at(decisions.shown, examination),
        lengths,
        decisions.user,
    )
    return Calibration(calibration.lines, values), {"targets": report, "values": sizes}


def in_brief(report: Mapping[str, Any]) -> dict[str, Any]:
    """What belongs beside validation metrics: they are in-sample now; quality before, after and cross-fitted."""
    return {
        "note": "Fitted on the validation time, so its log loss and ECE are in-sample: read cross-fitted, or the test.",
        "targets": {
            target: {key: rows["all"][key] for key in ("before", "after", "cross-fitted") if key in rows["all"]}
            for target, rows in report["targets"].items()
        },
        "values": report["values"],
    }


def logits_of(probabilities: Floats) -> Floats:
    """Logits of float32 probabilities, any shape; what rounding made 0 or 1 is held at -69 and 17."""
    p = np.clip(probabilities.astype(np.float64), 1e-30, 1 - 2.0**-25)
    return np.asarray(np.log(p) - np.log1p(-p))


def folds_of(users: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each row, all of a user's rows in one."""
    names, place = np.unique(users, return_inverse=True)
    return np.random.default_rng(0).permutation(len(names))[place] % FOLDS


def _unseen(fit: Callable[[Rows], Line], rows: Rows, fold: NDArray[np.int64]) -> Floats:
    """Calibrated logits [R], of each fold by a line that was fitted on the others."""
    found = np.empty(len(rows))
    for number in np.unique(fold):
        found[fold == number] = fit(rows.take(fold != number))(rows.logits[fold == number])
    return found


def _affordable(rows: Rows, fold: NDArray[np.int64]) -> list[str]:
    """The methods that so many answers can bear; none where without one fold hardly any are left, for one user may have
    given most of them."""
    left = [rows.take(fold != number).scarcer() for number in np.unique(fold)]
    scarcer = rows.scarcer() if min(left, default=0) >= VERY_FEW // 2 else 0
    return ["identity", "platt", "beta", "isotonic"][: 1 + (scarcer >= VERY_FEW) + 2 * (scarcer >= FEW)]


def _qualities(rows: Rows, after: Floats, cross: Floats) -> dict[str, Any]:
    if not len(rows):
        return {}
    return {
        "before": rows.quality(rows.logits),
        "after": rows.quality(after),
        "cross-fitted": rows.quality(cross),
    }
