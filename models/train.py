"""Training: a data set in, a run folder out, from which ``export`` publishes an artifact."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from models.calibrate import calibrate, in_brief, logits_of
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.evaluate import Scorer, decisions_of, evaluate, functions_of
from models.export import Served, golden_examples
from models.fit import Course, Report
from models.golden import Functions, record
from models.lessons import Lessons
from models.log import Log, Split, build_contract, build_log, build_vocabulary, split_by_time
from models.network import Network
from models.run import PARTS, SECOND, Run, RunError, TrainConfig, read_run, save_run, stacked
from models.scoring import looked_at
from models.stack import Stack, met, weigh


def train(
    dataset: Dataset,
    run: Path,
    config: TrainConfig,
    report: Report = lambda *_: None,
    split: Split | None = None,
) -> dict[str, Any]:
    """Train on the time before the split, stop early on the time after it, write everything into ``run``.

    The split is by time, 80 / 10 / 10, where none is given. One network is trained, whatever
    ``config.stack`` says; see :func:`train_stack`.

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
    lessons, started = Lessons.of(dataset, log, replace(config, stack=False), report), time.monotonic()
    history, courses = lessons.first(split, run / "logs")
    learned = Learned(dataset, log, split, lessons.network, lessons.config)
    served, metrics, choices = learned.judge(report)
    metrics |= {"learning": history, "train_seconds": round(time.monotonic() - started, 1)}
    facts = {
        "dataset": origin(dataset),
        "domain": dataset.domain.name,
        "calibration": choices,
        "courses": {lesson: asdict(course) for lesson, course in courses.items()},
    }
    learned.save(run, served, metrics, facts)
    return metrics


def train_stack(
    dataset: Dataset,
    run: Path,
    config: TrainConfig,
    report: Report = lambda *_: None,
    split: Split | None = None,
) -> tuple[Path, dict[str, Any]]:
    """:func:`train`, and where ``config.stack`` asks for it a second model in ``run-second``, and :func:`stack` both.

    Returns the run to publish, ``run-stacked`` or, where the second does not help, ``run``, and its metrics.

    Raises ValueError as :func:`train` does; what was trained before is whole.
    """
    metrics = train(dataset, run, config, report, split)
    if not config.stack:
        return run, metrics
    second, stacked = (run.with_name(f"{run.name}-{part}") for part in ("second", "stacked"))
    train(dataset, second, replace(config, model=SECOND), report, split)
    found = stack(dataset, run, second, stacked, report)
    return (run, metrics) if found is None else (stacked, found)


def stack(
    dataset: Dataset, run: Path, second: Path, into: Path, report: Report = lambda *_: None
) -> dict[str, Any] | None:
    """Ask the logistic regression of ``second`` beside the network of ``run`` (models/stack.py), as the run ``into``.

    Weights, and then the calibration, are fitted on the validation time.

    Returns the validation metrics, or None, and writes nothing, where no target is told better.

    Raises:
        RunError: one of the folders is no complete run, or a refit.
        ValueError: they are of different data.
    """
    first, other = _read_first(run), _read_first(second)
    same = ("dataset", "split")
    if [first.facts[name] for name in same] != [other.facts[name] for name in same]:
        raise ValueError(f"{run} and {second} were trained on different data or another time split; train one again.")
    split = Split(**first.facts["split"])
    log = build_log(dataset, first.vocabulary, first.contract, split.validation)
    network = stacked(first.contract, first.content, first, other)
    learned = Learned(dataset, log, split, network, replace(first.config, stack=True))
    asked, examination = learned.asked(), network.examined().numpy()
    scorers = (Scorer(log, functions(Served(part.network, part.calibration))) for part in (first, other))
    own, opinion = (logits_of(scorer.score(asked).probabilities) for scorer in scorers)
    looks = looked_at(asked.shown, examination)
    shares, why = weigh(first.contract.targets, own, opinion, asked, looks, met(log, asked))
    if not any(choice["stacked"] for choice in why.values()):
        return None
    network.shares.assign(shares)
    served, metrics, choices = learned.judge(report)
    seconds = first.metrics["train_seconds"] + other.metrics["train_seconds"]
    metrics |= {"learning": first.metrics["learning"], "train_seconds": round(seconds, 1)}
    for source, part in zip((run, second), PARTS, strict=True):
        shutil.copytree(source, into / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("logs"))
    learned.save(into, served, metrics, {**first.facts, "calibration": choices, "stack": why})
    return metrics


def refit(dataset: Dataset, run: Path, into: Path, report: Report = lambda *_: None) -> dict[str, Any]:
    """Learn again what ``run`` chose on its validation time, now up to its test time, and write that into ``into``.

    With new weights, for as many passes as were best (Goodfellow, Bengio & Courville 2016, section 7.8): who serves a
    model wants it to know the newest days. Settings, vocabulary, contract, the shares of a stack and calibration stay
    those of ``run``, and so do the validation metrics, since the new model has seen what they are about.

    Raises:
        RunError: the folder is no complete run, or one that was fitted again itself.
        ValueError: the data set is another one.
    """
    first = _read_first(run)
    if first.facts["dataset"] != origin(dataset):
        raise ValueError(f"{run} was trained on another data set than this {dataset.name}; train again.")
    split, started = Split(**{**first.facts["split"], "refit": True}), time.monotonic()
    log = build_log(dataset, first.vocabulary, first.contract, split.learned)
    if isinstance(first.network, Stack):
        for part in PARTS:
            refit(dataset, run / part, into / part, report)
        network: Network = stacked(first.contract, log.content, *(read_run(into / part) for part in PARTS))
        network.shares.assign(first.network.shares)
    else:
        lessons = Lessons.of(dataset, log, first.config, report)
        lessons.refit(split, {lesson: Course(**course) for lesson, course in first.facts["courses"].items()})
        network = lessons.network
    seconds = first.metrics["train_seconds"] + time.monotonic() - started
    metrics = {**first.metrics, "train_seconds": round(seconds, 1)}
    served = Served(network, first.calibration)
    Learned(dataset, log, split, network, first.config).save(into, served, metrics, first.facts)
    return metrics


def _read_first(folder: Path) -> Run:
    """A run that was not fitted again. Raises RunError."""
    run = read_run(folder)
    if run.facts["split"].get("refit"):
        raise RunError(f"{folder} is a refit itself; give the run that it came from.")
    if "courses" not in run.facts:
        raise RunError(f"{folder} is of an older version, which did not note its course; train again.")
    return run


def origin(dataset: Dataset) -> dict[str, Any]:
    """What a manifest says of the data."""
    return {key: dataset.info[key] for key in ("name", "synthetic", "source", "counts", "from", "to")}


def functions(served: Served) -> Functions:
    """What is served, as numpy in, numpy out."""
    return functions_of(served.function, served.names, served.contract)


@dataclass(frozen=True, slots=True)
class Learned:
    """A network that has learned, on its way into a run folder."""

    dataset: Dataset
    log: Log
    split: Split
    network: Network
    config: TrainConfig

    def asked(self, limit: int = 100_000, seed: int = 0) -> Decisions:
        """Decisions of the validation time."""
        start, end, horizon = self.split.validation, self.split.test, self.config.horizon_days
        return decisions_of(self.dataset, self.log, start, end, limit, seed, horizon_days=horizon)

    def judge(self, report: Report) -> tuple[Served, dict[str, Any], dict[str, Any]]:
        """The network, calibrated, its metrics in the validation time, and how the calibration was chosen."""
        log, examination = self.log, self.network.examined().numpy()
        calibration, choices = calibrate(
            log,
            functions(Served(self.network)),
            self.asked(),
            examination,
            lambda done, n: report("calibrate", done, n),
        )
        served = Served(self.network, calibration)
        metrics = evaluate(
            self.dataset,
            log,
            self.split,
            functions(served),
            examination,
            horizon_days=self.config.horizon_days,
            advance=lambda done, n: report("evaluate", done, n),
        )
        found = {"validation": metrics, "calibration": in_brief(choices)}
        return served, found, {"fitted_on": "validation", **choices}

    def save(self, run: Path, served: Served, metrics: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the run folder, with golden examples of the validation time."""
        network, log = self.network, self.log
        facts = {
            **facts,
            "training": asdict(self.config),
            "split": asdict(self.split),
            "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
            "examination": network.examined().numpy().tolist(),
        }
        examples = golden_examples(self.asked(20_000, seed=2), log)
        golden = record(examples, served.contract, log.vocabulary, functions(served))
        kept = served.calibration, served.contract, log.vocabulary, log.content, self.config
        save_run(run, Run(network, *kept, golden, metrics, facts))
