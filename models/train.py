"""Training: a data set in, a run folder out, from which ``export`` publishes an artifact."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.datasets.dataset import Dataset
from models.evaluate import decisions_of, evaluate, functions_of
from models.export import Served, golden_examples
from models.golden import record
from models.log import Log, Split, build_contract, build_log, build_vocabulary, split_by_time
from models.network import Network
from models.run import TrainConfig, build_network, save_run
from models.samples import Windows, event_decisions, exposure_decisions

#: Called as (phase, done, total) while training.
Report = Callable[[str, int, int], None]


def train(dataset: Dataset, run: Path, config: TrainConfig, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train on the time before the split, stop early on the time after it, write everything into ``run``.

    Raises ValueError, in one sentence, where the data cannot teach what the domain wants predicted.

    Returns the validation metrics, which are also in ``run/metrics.json``. TensorBoard reads ``run/logs``.
    """
    keras.utils.set_random_seed(config.seed)
    split = split_by_time(dataset)
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
    learn, check = _windows(dataset, log, split, config)
    network = build_network(contract, log.content, config)
    started = time.monotonic()
    history = _fit(network, learn, check, run, config, report)
    served = Served(network)
    functions = functions_of(served.functions, served.contract)
    metrics = evaluate(
        dataset, log, split, functions, network.positions.numpy(), advance=lambda done, n: report("evaluate", done, n)
    )
    metrics = {"validation": metrics, "learning": history, "train_seconds": round(time.monotonic() - started, 1)}
    examples = golden_examples(decisions_of(dataset, log, split.validation, split.test, 20_000, seed=2), log)
    golden = record(examples, served.contract, vocabulary, functions)
    facts = {
        "dataset": {key: dataset.info[key] for key in ("name", "synthetic", "source", "counts", "from", "to")},
        "domain": dataset.domain.name,
        "training": asdict(config),
        "split": {"validation": split.validation, "test": split.test},
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "position_bias": network.positions.numpy().tolist(),
    }
    save_run(run, network, served.contract, vocabulary, log.content, config, golden, metrics, facts)
    return metrics


class Progress(keras.callbacks.Callback):  # type: ignore[misc]
    """Tells ``report`` of every step, and ends training when its time is over."""

    def __init__(self, report: Report, steps: int, minutes: float) -> None:
        super().__init__()
        self.report, self.steps, self.deadline, self.epoch = report, steps, time.monotonic() + 60 * minutes, 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remember where we are."""
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """One step done."""
        loss = f"epoch {self.epoch}, loss {float(logs['loss']):.4f}" if logs else f"epoch {self.epoch}"
        self.report(loss, batch + 1, self.steps)
        if time.monotonic() > self.deadline:
            self.model.stop_training = True


def _windows(dataset: Dataset, log: Log, split: Split, config: TrainConfig) -> tuple[Windows, Windows]:
    """Windows to learn from and windows to stop by. Raises ValueError where either has nothing to teach."""
    moves = event_decisions(log)
    shown = dataset.exposures is not None
    decisions = exposure_decisions(dataset, log) if shown else moves
    parts = []
    for name, start, end in (("training", 0.0, split.validation), ("validation", split.validation, split.test)):
        inside = decisions.between(start, end)
        if not len(inside):
            raise ValueError(f"The data set {dataset.name} has no exposures in its {name} time.")
        per_window = config.per_window if shown else config.history_length
        parts.append(Windows(log, inside, moves.between(start, end), per_window=per_window))
        if name == "training":
            for target, yes in zip(log.contract.targets, inside.labels.sum(axis=0), strict=True):
                if not yes:
                    raise ValueError(
                        f"No exposure of {dataset.name} is followed by a {target}: exposures and events belong "
                        "together by user, item and request id, so both need the request id."
                    )
    return parts[0], parts[1]


def _fit(
    network: Network, learn: Windows, check: Windows, run: Path, config: TrainConfig, report: Report
) -> dict[str, list[float]]:
    rng = np.random.default_rng(config.seed)
    signature = {
        key: tf.TensorSpec([None, None, array.shape[2]] if array.ndim == 3 else [None, None], array.dtype)
        for key, array in learn.batch(np.arange(1)).items()
    }

    def feed(windows: Windows, shuffle: np.random.Generator | None) -> tf.data.Dataset:
        batches = tf.data.Dataset.from_generator(
            lambda: windows.batches(config.batch, shuffle), output_signature=signature
        )
        return batches.apply(tf.data.experimental.assert_cardinality(-(-len(windows) // config.batch))).prefetch(2)

    network.compile(optimizer=keras.optimizers.Adam(config.learning_rate, global_clipnorm=1.0))
    result = network.fit(
        feed(learn, rng),
        validation_data=feed(check, None),
        epochs=config.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            Progress(report, -(-len(learn) // config.batch), config.minutes),
            keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.4, patience=1),
            keras.callbacks.EarlyStopping("val_loss", patience=config.patience, restore_best_weights=True),
            keras.callbacks.TensorBoard(str(run / "logs"), write_graph=False),
        ],
    )
    return {name: [round(float(v), 6) for v in values] for name, values in result.history.items()}
