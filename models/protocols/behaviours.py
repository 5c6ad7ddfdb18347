"""Behaviours from history: the Transformer beside every yardstick on one data set, by the same questions.

The split is by time. Data with exposures keeps the usual one (80 / 10 / 10 of the events) and asks what is done with
what is shown. A log of less than three weeks is asked for the next event: its last day is the test, the day before the
validation. A longer log is asked what happens within the following week: its last week is the test, the week before
the validation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.evaluate import Rival, gather_artifact
from models.explain import Unexplained, faithfulness
from models.fit import Report
from models.growth import fit_trees, refit_trees
from models.log import Log, Split, build_log, split_by_time
from models.run import NETWORKS, SECOND, TrainConfig, publish_run
from models.train import refit, stack, train
from models.trees import Trees

#: Defaults for every data set.
DEFAULTS = TrainConfig(
    size="tiny",
    minutes=15.0,
    pretrain_epochs=4,
    epochs=100,
    patience=5,
    cool=0.5,
    batch=16,
    history_length=100,
    per_window=192,
    stack=True,
)
#: Settings that do nothing here: every network is trained, and the data says which horizon.
IDLE = frozenset(("model", "horizon_days"))
DAY = 86_400.0
WEEK_DAYS = 7.0
#: Events apart from all but this share at either end are strays, where with them the log is more than twice as long.
STRAY = 0.001
OURS = "behaviour"
#: What networks are called where that is not their kind: a yardstick that counts has the name already.
CALLED = {"popularity": "popularity-curve"}
TREES = "trees"
#: Decisions and lists are drawn from a period up to this number.
LIMIT = 100_000
#: Predictions of the test time by which the explanations are judged.
EXPLAINED = 1000


def split_of(dataset: Dataset) -> tuple[Split, float]:
    """The time split of a data set, and the horizon in days (0: the next event). Raises ValueError: too short a log."""
    if dataset.exposures is not None:
        return split_by_time(dataset), 0.0
    first, last = (float(m) / 1000 for m in dataset.events["at"].dt.epoch("ms").sort().gather([0, -1]).to_list())
    days = (last - first) / DAY
    width, horizon = (DAY, 0.0) if days < 3 * WEEK_DAYS else (WEEK_DAYS * DAY, WEEK_DAYS)
    if days * DAY < 3 * width:
        raise ValueError(
            f"The events of {dataset.name} span {days:.1f} days; "
            f"training, validation and test need {3 * width / DAY:.0f}."
        )
    end = last + 0.001
    return Split(end - 2 * width, end - width), horizon


def without_strays(dataset: Dataset) -> tuple[Dataset, int]:
    """The data set without events years away from all others, by which nothing could be split, and their number.

    A clock that was wrong makes some of any large log. What was shown has a split by shares of events, and keeps all.
    """
    if dataset.exposures is not None:
        return dataset, 0
    at = dataset.events["at"].dt.epoch("ms").to_numpy()
    low, high = np.quantile(at, STRAY, method="higher"), np.quantile(at, 1 - STRAY, method="lower")
    if at.max() - at.min() <= 2 * (high - low):
        return dataset, 0
    room = (high - low) / 10
    kept = (at >= low - room) & (at <= high + room)
    return replace(dataset, events=dataset.events.filter(pl.Series(kept))), int((~kept).sum())


@dataclass(frozen=True, slots=True)
class Trained:
    """The Transformer and the other networks, published, and the time split that they know."""

    ours: Artifact
    others: list[Artifact]

    @property
    def split(self) -> Split:
        """The split, and whether they were fitted again."""
        return Split.of(self.ours)

    def log(self, dataset: Dataset) -> Log:
        """The data with the counts that they know."""
        return build_log(dataset, self.ours.vocabulary, self.ours.contract, self.split.learned)


def run_behaviours(
    dataset: Dataset, config: TrainConfig, folder: Path, report: Report = lambda *_: None
) -> dict[str, Any]:
    """Train the Transformer and the yardsticks, and measure all of them on the same rows of validation and test.

    What is asked of the test has been fitted again up to it, with what was chosen on the validation (train.refit).

    Args:
        folder: takes runs and published models; what is there already by the same name is trained again.

    Returns ``valid`` (of the models before) and ``test`` (metrics by behaviour), ``yardsticks`` (the same by name),
    ``differences`` (the Transformer less each yardstick, with intervals, paired over users), ``explanations`` (how
    faithful they are, see explain.faithfulness), ``train_seconds`` (of all trainings) and ``parameters``, where the
    ``split`` is, whether what answered the test is a ``refit``, how a ``stack`` was chosen (None: there is none), and
    how many ``strays`` (see :func:`without_strays`) were left out.
    Raises ValueError as :func:`split_of` and training do.
    """
    dataset, strays = without_strays(dataset)
    split, horizon = split_of(dataset)
    started = time.monotonic()
    runs = {kind: folder / "runs" / kind for kind in NETWORKS}

    def advance(kind: str) -> Report:
        return lambda phase, done, total: report(f"{kind}: {phase}", done, total)

    for kind, run in runs.items():
        settings = replace(config, model=kind, horizon_days=horizon)
        train(dataset, run, settings, advance(kind), split=split)
    if config.stack:
        stacked = folder / "runs" / "stacked"
        if stack(dataset, runs[OURS], runs[SECOND], stacked, advance("stack")) is not None:
            runs[OURS] = stacked
    first, again = {}, {}
    for kind, run in runs.items():
        refitted = run.with_name(f"{run.name}-refit")
        refit(dataset, run, refitted, advance(kind))
        first[kind], again[kind] = (
            publish_run(source, folder / "models", CALLED.get(kind, kind)) for source in (run, refitted)
        )
    before, after = (Trained(models.pop(OURS), list(models.values())) for models in (first, again))
    return {
        **measured(dataset, before, after, report),
        "seconds": round(time.monotonic() - started, 1),
        "strays": strays,
    }


def measured(dataset: Dataset, first: Trained, again: Trained, report: Report = lambda *_: None) -> dict[str, Any]:
    """What :func:`run_behaviours` returns of trained networks and the same fitted again; the trees are grown here."""
    ours, split, horizon = again.ours, again.split, again.ours.horizon_days
    report("trees", 0, 2)
    trees = fit_trees(dataset, first.log(dataset), first.split, horizon_days=horizon)
    valid = _report(dataset, first, trees, "validation")
    report("trees", 1, 2)
    trees = refit_trees(trees, dataset, again.log(dataset), split, horizon_days=horizon)
    found = {"valid": valid, "test": _report(dataset, again, trees, "test")}
    return {
        "valid": found["valid"]["model"],
        "test": found["test"]["model"],
        "yardsticks": by_name(found),
        "differences": {part: report_["differences"] for part, report_ in found.items()},
        "intervals": {part: report_["intervals"].get("model", {}) for part, report_ in found.items()},
        "breakdown": {part: report_["breakdown"] for part, report_ in found.items()},
        "explanations": explained(ours, dataset),
        "train_seconds": ours.metrics()["train_seconds"],
        "parameters": ours.manifest["parameters"],
        "horizon_days": horizon,
        "split": {
            name: datetime.fromtimestamp(getattr(split, name), UTC).isoformat() for name in ("validation", "test")
        },
        "refit": split.refit,
        "stack": ours.manifest.get("stack"),
        "synthetic": dataset.synthetic,
    }


def _report(dataset: Dataset, trained: Trained, trees: Trees, part: str) -> dict[str, Any]:
    others = {TREES: Rival(trees, trees.examination)}
    return gather_artifact(trained.ours, dataset, part, LIMIT, against=trained.others, others=others).report()


def explained(artifact: Artifact, dataset: Dataset) -> dict[str, Any]:
    """How faithful explanations are in the test time, or no ``predictions`` and, under ``missing``, why."""
    try:
        return faithfulness(artifact, dataset, EXPLAINED)
    except Unexplained as error:
        return {"predictions": 0, "missing": str(error)}


def by_name(found: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """``yardsticks`` -> name -> ``valid`` and ``test``."""
    beside = {"model", "intervals", "differences", "breakdown"}
    names = [name for name in found["test"] if name not in beside]
    return {name: {part: report[name] for part, report in found.items()} for name in names}
