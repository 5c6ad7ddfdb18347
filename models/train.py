"""Training: a data set in, a run folder out, from which ``export`` publishes an artifact."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.calibrate import calibrate, in_brief
from models.datasets.dataset import Dataset
from models.evaluate import decisions_of, evaluate, functions_of
from models.export import Served, golden_examples
from models.fit import Course, Report
from models.golden import Functions, record
from models.lessons import Lessons
from models.log import Split, build_contract, build_log, build_vocabulary, split_by_time
from models.run import Run, RunError, TrainConfig, read_run, save_run


def train(
    dataset: Dataset,
    run: Path,
    config: TrainConfig,
    report: Report = lambda *_: None,
    split: Split | None = None,
) -> dict[str, Any]:
    """Train on the time before the split, stop early on the time after it, write everything into ``run``.

    The split is by time, 80 / 10 / 10, where none is given.

    Raises ValueError, in one sentence, where the data cannot teach what the domain wants predicted.

    Returns the validation metrics, which are also in ``run/metrics.json``. TensorBoard reads ``run/logs``.
    """
    split = split or split_by_time(dataset)
    vocabulary = build_vocabulary(dataset, split.validation)
    contract = build_contract(
        dataset,
        vocabulary,
        dataset.domain,
        split.validation,
        history_length=config.history_length,
        negatives=config.negatives,
    )
    log = build_log(dataset, vocabulary, contract, split.validation)
    lessons, started = Lessons.of(dataset, log, config, report), time.monotonic()
    history, courses = lessons.first(split, run / "logs")
    examination = lessons.network.examined().numpy()
    served = Served(lessons.network)
    asked = decisions_of(dataset, log, split.validation, split.test, 100_000, horizon_days=config.horizon_days)
    calibration, choices = calibrate(
        log,
        functions_of(served.function, served.names, served.contract),
        asked,
        examination,
        lambda done, n: report("calibrate", done, n),
    )
    served = Served(lessons.network, calibration)
    functions = functions_of(served.function, served.names, served.contract)
    metrics = evaluate(
        dataset,
        log,
        split,
        functions,
        examination,
        horizon_days=config.horizon_days,
        advance=lambda done, n: report("evaluate", done, n),
    )
    metrics = {"validation": metrics, "learning": history, "train_seconds": round(time.monotonic() - started, 1)}
    metrics["calibration"] = in_brief(choices)
    facts = {
        "dataset": origin(dataset),
        "domain": dataset.domain.name,
        "calibration": {"fitted_on": "validation", **choices},
        "courses": {lesson: asdict(course) for lesson, course in courses.items()},
    }
    _save(run, lessons, split, served, functions, metrics, facts)
    return metrics


def refit(dataset: Dataset, run: Path, into: Path, report: Report = lambda *_: None) -> dict[str, Any]:
    """Learn again what ``run`` chose on its validation time, now up to its test time, and write that into ``into``.

    With new weights, for as many passes as were best (Goodfellow, Bengio & Courville 2016, section 7.8): who serves a
    model wants it to know the newest days. Settings, vocabulary, contract and calibration stay those of ``run``, and so
    do the validation metrics, since the new model has seen what they are about.

    Raises:
        RunError: the folder is no complete run, or one that was fitted again itself.
        ValueError: the data set is another one.
    """
    first = read_run(run)
    split = Split(**first.facts["split"])
    if split.refit:
        raise RunError(f"{run} is a refit itself; give the run that it came from.")
    if "courses" not in first.facts:
        raise RunError(f"{run} is of an older version, which did not note its course; train again.")
    if first.facts["dataset"] != origin(dataset):
        raise ValueError(f"{run} was trained on another data set than this {dataset.name}; train again.")
    split = replace(split, refit=True)
    log = build_log(dataset, first.vocabulary, first.contract, split.learned)
    lessons, started = Lessons.of(dataset, log, first.config, report), time.monotonic()
    lessons.refit(split, {lesson: Course(**course) for lesson, course in first.facts["courses"].items()})
    seconds = first.metrics["train_seconds"] + time.monotonic() - started
    metrics = {**first.metrics, "train_seconds": round(seconds, 1)}
    served = Served(lessons.network, first.calibration)
    functions = functions_of(served.function, served.names, served.contract)
    _save(into, lessons, split, served, functions, metrics, first.facts)
    return metrics


def origin(dataset: Dataset) -> dict[str, Any]:
    """What a manifest says of the data."""
    return {key: dataset.info[key] for key in ("name", "synthetic", "source", "counts", "from", "to")}


def _save(
    run: Path,
    lessons: Lessons,
    split: Split,
    served: Served,
    functions: Functions,
    metrics: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write the run folder of what was learned, with golden examples of its validation time."""
    network, log = lessons.network, lessons.log
    examples = golden_examples(decisions_of(lessons.dataset, log, split.validation, split.test, 20_000, seed=2), log)
    facts = {
        **facts,
        "training": asdict(lessons.config),
        "split": asdict(split),
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "examination": network.examined().numpy().tolist(),
    }
    golden = record(examples, served.contract, log.vocabulary, functions)
    kept = served.calibration, served.contract, log.vocabulary, log.content, lessons.config
    save_run(run, Run(network, *kept, golden, metrics, facts))
