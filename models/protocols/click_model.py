"""A network trained on a click file, and its answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.accelerate import Accelerator
from models.behaviour import prior_l2
from models.calibrate import fit_calibration
from models.calibration import Calibration
from models.calibrators import sigmoid
from models.contract import PAD
from models.encode import Arrays
from models.fit import Fit, Report, ahead
from models.metrics import auc, expected_calibration_error, log_loss
from models.network import Network
from models.past import Candidates, Events, Past
from models.protocols.click_table import Table
from models.run import TrainConfig, build_network, build_variables, schedule_of

CHUNK = 8192


def figures(labels: NDArray[np.float32], chances: NDArray[np.float64]) -> dict[str, float]:
    """AUC, log loss and calibration error of chances [N]."""
    return {
        "auc": round(auc(labels, chances), 5),
        "logloss": round(log_loss(labels, chances), 5),
        "ece": round(expected_calibration_error(labels, chances), 5),
    }


def calibration_of(logits: NDArray[Any], labels: NDArray[Any]) -> tuple[Calibration, dict[str, Any]]:
    """A calibration by rows [N] of the validation, none of which has a history, and how good it is unseen."""
    ones = np.ones((len(labels), 1), np.float32)
    nobody, users = np.zeros(len(labels), np.int64), np.arange(len(labels))
    found, report = fit_calibration(("click",), logits[:, None], labels[:, None], ones, ones[:, 0], nobody, users)
    return found, dict(report["click"]["all"])


def chances_of(logits: NDArray[Any], calibration: Calibration) -> NDArray[np.float64]:
    """Calibrated chances [N] of rows without a history."""
    return sigmoid(calibration.apply(logits[:, None], np.zeros(len(logits), np.int64))[:, 0].astype(np.float64))


class Scorer:
    """Probabilities of a part's rows."""

    def __init__(self, network: Network, table: Table) -> None:
        self.network, self.table = network, table
        self.logits = tf.function(self._logits, jit_compile=True)
        self.calibration = Calibration.none(network.contract.targets)

    def calibrate(self) -> dict[str, Any]:
        """Fit the calibration on the validation rows; says which method was chosen, and how good it is unseen."""
        self.calibration, report = calibration_of(self.raw("valid"), self.table.labels["valid"])
        return report

    def _logits(self, items: Any, context: Any) -> Any:
        network, length = self.network, self.network.contract.history_length
        empty = tf.zeros([1, length], tf.int32)
        nothing = tf.zeros([1, length])
        columns = {"items": empty, "types": empty, "gaps": empty, "values": nothing, "ages": nothing}
        state = network.state_of(Events.of(columns))
        past = Past(state, empty != PAD, tf.fill(tf.shape(items), -1), tf.zeros(tf.shape(items)))
        own, numbers = network.catalogue_vectors(items)
        return network.score(past, Candidates(items, own, numbers, context), network.categories)[0, :, 0]

    def raw(self, part: str) -> NDArray[np.float32]:
        """The network's logit of each row [N]."""
        items, context = self.table.items[part], self.table.context[part]
        found = []
        for start in range(0, len(items), CHUNK):
            rows = slice(start, start + CHUNK)
            short = CHUNK - len(items[rows])
            padded = np.pad(items[rows], (0, short)), np.pad(context[rows], ((0, short), (0, 0)))
            logits = self.logits(tf.constant(padded[0][None]), tf.constant(padded[1][None])).numpy()
            found.append(logits[: CHUNK - short])
        return np.concatenate(found)

    def probabilities(self, part: str) -> NDArray[np.float64]:
        """P(click) of each row [N]."""
        logits = self.raw(part)
        return chances_of(logits, self.calibration)

    def figures(self, part: str) -> dict[str, float]:
        """AUC, log loss and calibration error of a part."""
        return figures(self.table.labels[part], self.probabilities(part))


def learned(table: Table, config: TrainConfig, report: Report) -> tuple[Scorer, dict[str, list[float]]]:
    """A network of the configured kind, trained on ``train`` and stopped by ``valid``, and its learning curves."""
    contract = table.contract(config.history_length)
    content = {"categories": np.zeros((table.size, 0), np.int32), "numbers": np.zeros((table.size, 3), np.float32)}
    network = build_network(contract, content, config)
    build_variables(network)
    scorer = Scorer(network, table)
    rng = np.random.default_rng(config.seed)
    rows = len(table.labels["train"])

    def check() -> dict[str, float]:
        found = scorer.figures("valid")
        # By order, not by log loss: what is over-confident is calibrated in the end.
        return {"val_loss": -found["auc"], "val_logloss": found["logloss"]}

    schedule = schedule_of(config)
    if config.table_l2 < 0:
        schedule = replace(schedule, table_l2=prior_l2(rows))
    # On one device, for all decisions of a batch belong to one row, the empty history.
    fit = Fit(network, network.losses_of, schedule, Accelerator(xla=config.xla, devices=1), config.model)
    size = min(config.batch, rows)
    return scorer, fit.run(lambda: ahead(_batches(table, config, size, rng)), rows // size, check, report)


def _batches(table: Table, config: TrainConfig, size: int, rng: np.random.Generator) -> Iterator[Arrays]:
    """Shuffled batches: one empty history with ``size`` many decisions. What is left over waits for the next pass."""
    order = rng.permutation(len(table.labels["train"]))
    empty = np.zeros((1, config.history_length), np.int32)
    fields = len(table.fields)
    for start in range(0, len(order) - size + 1, size):
        rows = order[start : start + size]
        yield {
            **dict.fromkeys(("items", "types", "gaps"), empty),
            **dict.fromkeys(("values", "ages"), empty.astype(np.float32)),
            "prefix": np.full((1, size), -1, np.int32),
            "since": np.zeros((1, size), np.float32),
            "candidates": table.items["train"][rows][None],
            "popularity": np.zeros((1, size), np.float32),
            "drawn": np.zeros((1, size), np.float32),
            "context": table.context["train"][rows][None],
            "shown": np.zeros((1, size), np.int32),
            "labels": table.labels["train"][rows][None, :, None],
            "weights": np.ones((1, size, 1), np.float32),
            "amounts": np.zeros((1, size, 0), np.float32),
            "moves": np.zeros((1, 1), np.int32),
            "move_prefix": np.full((1, 1), -1, np.int32),
            "move_since": np.zeros((1, 1), np.float32),
            "move_context": np.zeros((1, 1, fields), np.int32),
            "picked": np.full(1, -1, np.int32),
        }
