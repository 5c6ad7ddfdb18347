"""Click in context: one table of categorical fields a row, as Frappe has it; no history, no time.

The file is an ``.npz`` with ``train_X``, ``valid_X``, ``test_X`` [N, F] of small whole numbers and ``*_y`` [N] of 0
and 1; ``fields`` names the columns, of which ``item`` is the candidate and the others are the context.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.accelerate import Accelerator
from models.behaviour import prior_l2
from models.calibrate import fit_calibration
from models.calibration import Calibration
from models.calibrators import sigmoid
from models.contract import FIRST, PAD, Behaviour, Contract, Field
from models.encode import Arrays
from models.fit import Fit, Report, ahead
from models.metrics import auc, expected_calibration_error, log_loss
from models.network import Network
from models.past import Candidates, Events, Past
from models.run import TrainConfig, build_network, build_variables, schedule_of

#: Defaults for every file; ``batch`` counts rows here.
DEFAULTS = TrainConfig(
    size="small",
    epochs=60,
    patience=3,
    minutes=25.0,
    batch=1024,
    history_length=2,
    input_dropout=0.3,
    xla=True,
)
PARTS = ("train", "valid", "test")
ITEM = "item"
CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of ids by part: items [N], context [N, F], labels [N]; and the sizes of the ids."""

    items: dict[str, NDArray[np.int32]]
    context: dict[str, NDArray[np.int32]]
    labels: dict[str, NDArray[np.float32]]
    fields: tuple[Field, ...]
    size: int

    @classmethod
    def read(cls, path: Path) -> Table:
        """Raises ValueError, in one sentence, for a file that lacks a part or whose parts do not fit together."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as .npz ({error}).") from error
        wanted = [f"{part}_{half}" for part in PARTS for half in "Xy"] + ["fields"]
        if missing := [name for name in wanted if name not in arrays]:
            raise ValueError(f"{path} lacks {missing[0]}; a click file holds {', '.join(wanted)}.")
        names = [str(name) for name in arrays["fields"]]
        if ITEM not in names:
            raise ValueError(f"{path}: no field is called {ITEM!r}, so nothing says what is clicked.")
        for part in PARTS:
            rows, labels = arrays[f"{part}_X"], arrays[f"{part}_y"]
            if rows.ndim != 2 or rows.shape[1] != len(names) or labels.shape != rows.shape[:1] or not len(rows):
                raise ValueError(f"{path}: {part}_X and {part}_y do not have one row of {len(names)} fields a label.")
            if not set(np.unique(labels)) <= {0, 1}:
                raise ValueError(f"{path}: {part}_y holds something else than 0 and 1.")
        known = [vocabulary(arrays["train_X"][:, place]) for place in range(len(names))]
        ids = {part: encode(arrays[f"{part}_X"], known) for part in PARTS}
        item = names.index(ITEM)
        others = [place for place in range(len(names)) if place != item]
        return cls(
            items={part: rows[:, item] for part, rows in ids.items()},
            context={part: rows[:, others] for part, rows in ids.items()},
            labels={part: arrays[f"{part}_y"].astype(np.float32) for part in PARTS},
            fields=tuple(Field(names[place], "request", FIRST + len(known[place])) for place in others),
            size=FIRST + len(known[item]),
        )


def vocabulary(column: NDArray[Any]) -> NDArray[Any]:
    """The values of a training column, sorted."""
    return np.unique(column)


def encode(rows: NDArray[Any], known: list[NDArray[Any]]) -> NDArray[np.int32]:
    """Ids [N, F] from FIRST up; UNKNOWN for what training has not seen."""
    columns = []
    for place, values in enumerate(known):
        found = np.minimum(np.searchsorted(values, rows[:, place]), len(values) - 1)
        columns.append(np.where(values[found] == rows[:, place], FIRST + found, 1))
    return np.stack(columns, axis=1).astype(np.int32)


def run_click(path: Path, config: TrainConfig, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train on ``train``, stop and calibrate on ``valid``, report both: auc, logloss and ece of behaviour ``click``.

    The figures of ``valid`` are of the very rows of the calibration; ``cross-fitted`` stands beside them.
    Raises ValueError as :meth:`Table.read` does.
    """
    keras.utils.set_random_seed(config.seed)
    table = Table.read(path)
    contract = Contract(
        behaviours=(Behaviour("click", target=True, weight=1.0),),
        fields=table.fields,
        category_sizes=(),
        history_length=config.history_length,
        state_shape=(config.history_length, 0),
        state_dtype="float16",
        items=table.size,
        retrieval_size=1,
        value_scales={},
        repeats=False,
    )
    content = {"categories": np.zeros((table.size, 0), np.int32), "numbers": np.zeros((table.size, 3), np.float32)}
    network = build_network(contract, content, config)
    build_variables(network)
    scorer = Scorer(network, table)
    started = time.monotonic()
    history = _learn(network, table, scorer, config, report)
    choice = scorer.calibrate()
    return {
        "valid": {"click": scorer.figures("valid") | {"cross-fitted": choice["cross-fitted"]}},
        "test": {"click": scorer.figures("test")},
        "train_seconds": round(time.monotonic() - started, 1),
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "calibration": choice["method"],
        "learning": history,
    }


class Scorer:
    """Probabilities of a part's rows."""

    def __init__(self, network: Network, table: Table) -> None:
        self.network, self.table = network, table
        self.logits = tf.function(self._logits, jit_compile=True)
        self.calibration = Calibration.none(network.contract.targets)

    def calibrate(self) -> dict[str, Any]:
        """Fit the calibration on the validation rows; says which method was chosen, and how good it is unseen."""
        logits, labels = self.raw("valid"), self.table.labels["valid"]
        nobody = np.zeros(len(labels), np.int64)
        self.calibration, report = fit_calibration(
            self.network.contract.targets,
            logits[:, None],
            labels[:, None],
            np.ones((len(labels), 1), np.float32),
            np.ones(len(labels), np.float32),
            nobody,
            np.arange(len(labels)),
        )
        return dict(report[self.network.contract.targets[0]]["all"])

    def _logits(self, items: Any, context: Any) -> Any:
        network, length = self.network, self.network.contract.history_length
        empty = tf.zeros([1, length], tf.int32)
        vectors, _ = network.catalogue_vectors(empty)
        nothing = tf.zeros([1, length])
        state = network.encode(Events(empty, empty, empty, nothing, nothing), vectors)
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
        calibrated = self.calibration.apply(logits[:, None], np.zeros(len(logits), np.int64))
        return sigmoid(calibrated[:, 0].astype(np.float64))

    def figures(self, part: str) -> dict[str, float]:
        """AUC, log loss and calibration error of a part."""
        labels, chances = self.table.labels[part], self.probabilities(part)
        return {
            "auc": round(auc(labels, chances), 5),
            "logloss": round(log_loss(labels, chances), 5),
            "ece": round(expected_calibration_error(labels, chances), 5),
        }


def _learn(
    network: Network, table: Table, scorer: Scorer, config: TrainConfig, report: Report
) -> dict[str, list[float]]:
    rng = np.random.default_rng(config.seed)
    rows = len(table.labels["train"])

    def check() -> dict[str, float]:
        found = scorer.figures("valid")
        # By order, not by log loss: what is over-confident is calibrated in the end.
        return {"val_loss": -found["auc"], "val_logloss": found["logloss"]}

    schedule = schedule_of(config)
    if config.table_l2 < 0:
        schedule = replace(schedule, table_l2=prior_l2(rows))
    fit = Fit(network, network.losses_of, schedule, Accelerator(xla=config.xla), "click")
    return fit.run(lambda: ahead(_batches(table, config, rng)), rows // config.batch, check, report)


def _batches(table: Table, config: TrainConfig, rng: np.random.Generator) -> Iterator[Arrays]:
    """Shuffled batches: one empty history with ``batch`` many decisions."""
    order = rng.permutation(len(table.labels["train"]))
    empty = np.zeros((1, config.history_length), np.int32)
    size = config.batch
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
