"""Training: a data set in, a run folder out, from which ``export`` publishes an artifact."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.accelerate import Accelerator
from models.augment import hide_events
from models.behaviour import prior_l2
from models.calibrate import calibrate, in_brief
from models.datasets.dataset import Dataset
from models.decisions import event_decisions, exposure_decisions, period_decisions
from models.encode import Arrays
from models.evaluate import decisions_of, evaluate, functions_of
from models.export import Served, golden_examples
from models.fit import Fit, Losses, Report, Schedule, ahead, mean_losses
from models.golden import record
from models.log import Log, Split, build_contract, build_log, build_vocabulary, split_by_time
from models.network import Network
from models.run import TrainConfig, build_network, build_variables, save_run, schedule_of
from models.samples import Windows


def train(
    dataset: Dataset,
    run: Path,
    config: TrainConfig,
    report: Report = lambda *_: None,
    split: Split | None = None,
) -> dict[str, Any]:
    """Train on the time before the split, stop early on the time after it, write everything into ``run``.

    First the next event alone (pretraining, for networks that retrieve by vector), then every head at once. The split
    is by time, 80 / 10 / 10, where none is given.

    Raises ValueError, in one sentence, where the data cannot teach what the domain wants predicted.

    Returns the validation metrics, which are also in ``run/metrics.json``. TensorBoard reads ``run/logs``.
    """
    keras.utils.set_random_seed(config.seed)
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
    accelerator = Accelerator(xla=config.xla, devices=config.devices)
    with accelerator.scope():
        network = build_network(contract, log.content, config)
        build_variables(network)
    if config.weight_decay < 0:
        config = replace(config, weight_decay=network.weight_decay)
    learn, check = _windows(dataset, log, split, config, config.hard_negatives if network.takes_hard else 0.0)
    started = time.monotonic()
    history = {}
    if network.retrieval_weight and config.pretrain_epochs:
        history["pretrain"] = _pretrain(network, log, split, run, config, accelerator, report)
    left = config.minutes - (time.monotonic() - started) / 60
    schedule = replace(schedule_of(config), minutes=max(left, config.minutes / 4))
    if config.table_l2 < 0:
        schedule = replace(schedule, table_l2=prior_l2(learn.decisions * (1 + contract.negatives)))
    history["train"] = _fit(
        network, network.losses_of, learn, check, schedule, "train", run, config, accelerator, report
    )
    served = Served(network)
    asked = decisions_of(dataset, log, split.validation, split.test, 100_000, horizon_days=config.horizon_days)
    calibration, choices = calibrate(
        log,
        functions_of(served.function, served.names, served.contract),
        asked,
        network.examined().numpy(),
        lambda done, n: report("calibrate", done, n),
    )
    served = Served(network, calibration)
    functions = functions_of(served.function, served.names, served.contract)
    metrics = evaluate(
        dataset,
        log,
        split,
        functions,
        network.examined().numpy(),
        horizon_days=config.horizon_days,
        advance=lambda done, n: report("evaluate", done, n),
    )
    metrics = {"validation": metrics, "learning": history, "train_seconds": round(time.monotonic() - started, 1)}
    metrics["calibration"] = in_brief(choices)
    examples = golden_examples(decisions_of(dataset, log, split.validation, split.test, 20_000, seed=2), log)
    golden = record(examples, served.contract, vocabulary, functions)
    facts = {
        "dataset": {key: dataset.info[key] for key in ("name", "synthetic", "source", "counts", "from", "to")},
        "domain": dataset.domain.name,
        "training": asdict(config),
        "split": {"validation": split.validation, "test": split.test},
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "examination": network.examined().numpy().tolist(),
        "calibration": {"fitted_on": "validation", **choices},
    }
    save_run(run, network, calibration, served.contract, vocabulary, log.content, config, golden, metrics, facts)
    return metrics


def _windows(dataset: Dataset, log: Log, split: Split, config: TrainConfig, hard: float) -> tuple[Windows, Windows]:
    """Windows to learn from and windows to stop by. Raises ValueError where either has nothing to teach."""
    moves = event_decisions(log)
    shown = dataset.exposures is not None and not config.horizon_days
    every = exposure_decisions(dataset, log) if shown else moves
    parts = []
    for name, start, end in (("training", 0.0, split.validation), ("validation", split.validation, split.test)):
        if config.horizon_days:
            inside = period_decisions(log, start, end, config.horizon_days)
        else:
            inside = every.between(start, end)
        if not len(inside):
            raise ValueError(f"The data set {dataset.name} has nothing to decide in its {name} time.")
        per_window = config.per_window if shown else config.history_length
        parts.append(Windows(log, inside, moves.between(start, end), per_window=per_window, hard=hard))
        if name == "training":
            for target, yes in zip(log.contract.targets, inside.labels.sum(axis=0), strict=True):
                if not yes:
                    raise ValueError(
                        f"No exposure of {dataset.name} is followed by a {target}: exposures and events belong "
                        "together by user, item and request id, so both need the request id."
                        if shown
                        else f"In the training time of {dataset.name} nobody with a history goes on to a {target}, so "
                        "that it cannot be learned; leave those events out."
                    )
    return parts[0], parts[1]


def _pretrain(
    network: Network,
    log: Log,
    split: Split,
    run: Path,
    config: TrainConfig,
    accelerator: Accelerator,
    report: Report,
) -> dict[str, list[float]]:
    """Learn which item comes next, on every event before the split; at most half of the time."""
    moves = event_decisions(log)
    learn = Windows(log, None, moves.between(0.0, split.validation))
    check = Windows(log, None, moves.between(split.validation, split.test))
    schedule = replace(schedule_of(config), epochs=config.pretrain_epochs, minutes=config.minutes / 2, table_l2=0.0)
    return _fit(
        network, network.pretraining_losses, learn, check, schedule, "pretrain", run, config, accelerator, report
    )


def _fit(
    network: Network,
    losses: Losses,
    learn: Windows,
    check: Windows,
    schedule: Schedule,
    phase: str,
    run: Path,
    config: TrainConfig,
    accelerator: Accelerator,
    report: Report,
) -> dict[str, list[float]]:
    rng = np.random.default_rng(config.seed)

    def batches() -> Iterable[Arrays]:
        return ahead(hide_events(batch, config.augment, rng) for batch in learn.batches(config.batch, rng))

    fit = Fit(network, losses, schedule, accelerator, phase)
    validation = mean_losses(network, losses, lambda: ahead(check.batches(config.batch)), accelerator)
    return fit.run(batches, len(learn.plan(config.batch)), validation, report, run / "logs")
