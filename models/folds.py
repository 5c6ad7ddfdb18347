"""Cross-validation in time: several successive validation periods, a model trained anew for each on all before it.

An expanding window (Hyndman & Athanasopoulos 2021, section 5.10): what is learned from always lies before what is
asked. The last tenth of the events, the test time, stays out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.fit import Report
from models.log import Split, split_by_time
from models.run import TrainConfig
from models.train import train_stack

#: Share of the events that no fold sees, and of those that one fold is validated on at most.
TEST = 0.1
WIDTH = 0.1
#: All folds together are validated on at most this share, so that the first one has enough to learn from.
MOST = 0.5


def fold_splits(dataset: Dataset, folds: int) -> list[Split]:
    """Splits whose validation periods follow each other and hold about equally many events; the last ends at the test.

    Raises:
        ValueError: fewer than two folds, or more than the times of the events can tell apart.
    """
    if folds < 2:
        raise ValueError(f"{folds} folds are no cross-validation; choose two or more.")
    width = min(WIDTH, MOST / folds)
    splits = [split_by_time(dataset, width, TEST + width * later) for later in range(folds - 1, -1, -1)]
    starts = [split.validation for split in splits]
    if len(set(starts)) < folds:
        raise ValueError(f"The events of {dataset.name} lie at too few times for {folds} folds; choose fewer.")
    ends = [*starts[1:], splits[-1].test]
    return [Split(start, end) for start, end in zip(starts, ends, strict=True)]


def cross_validate(
    models: Sequence[Artifact], dataset: Dataset, runs: Path, folds: int, report: Report = lambda *_: None
) -> dict[str, Any]:
    """Train models anew, with the settings they were trained with, for every fold, and measure them there.

    Returns:
        ``folds``: the day on which each validation period starts; ``models``: by name, ``mean`` and ``spread``
        (standard deviation over folds, n - 1) by subject and metric, and ``each`` fold's metrics.

    Raises:
        ValueError: as :func:`fold_splits` and training do, or an artifact does not say how it was trained.
    """
    splits = fold_splits(dataset, folds)
    found: dict[str, Any] = {}
    for model in models:
        config = settings(model)
        each = []
        for number, split in enumerate(splits, 1):

            def advance(phase: str, done: int, total: int, where: str = f"{model.name} {number}/{folds}") -> None:
                report(f"{where}: {phase}", done, total)

            run = runs / f"{model.name}-{model.version}-fold{number}"
            each.append(unseen(train_stack(dataset, run, config, advance, split)[1]))
        found[model.name if model.name not in found else f"{model.name}:{model.version}"] = summary(each)
    days = [f"{datetime.fromtimestamp(split.validation, UTC):%Y-%m-%d}" for split in splits]
    return {"folds": days, "models": found}


def unseen(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """A fold's metrics by subject; log loss and calibration error cross-fitted, or left out where they could not be,
    for the calibration was fitted on the very period."""
    found = {subject: dict(figures) for subject, figures in metrics["validation"]["model"].items()}
    for target, choice in metrics["calibration"]["targets"].items():
        for name in ("logloss", "ece"):
            found[target].pop(name, None)
        found[target] |= choice.get("cross-fitted", {})
    return found


def summary(each: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) of every metric that all folds have, and the folds themselves."""
    shared = {
        subject: [m for m in each[0][subject] if all(m in fold.get(subject, {}) for fold in each)]
        for subject in each[0]
    }
    columns = {s: {m: np.array([fold[s][m] for fold in each], float) for m in metrics} for s, metrics in shared.items()}
    mean = {s: {m: float(v.mean()) for m, v in metrics.items()} for s, metrics in columns.items()}
    spread = {s: {m: float(v.std(ddof=1)) for m, v in metrics.items()} for s, metrics in columns.items()}
    return {"mean": mean, "spread": spread, "each": [dict(fold) for fold in each]}


def settings(model: Artifact) -> TrainConfig:
    """The settings that an artifact was trained with. Raises ValueError where this version does not know them all."""
    try:
        given = dict(model.manifest["training"])
        known = {field.name for field in fields(TrainConfig)}
        return TrainConfig(**{name: value for name, value in given.items() if name in known})
    except KeyError as error:
        raise ValueError(f"{model.path} does not say how it was trained; train it again.") from error
