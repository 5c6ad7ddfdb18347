"""Click in context: one table of categorical fields a row, as Frappe has it; no history, no time.

The file is an ``.npz`` with ``train_X``, ``valid_X``, ``test_X`` [N, F] of small whole numbers and ``*_y`` [N] of 0
and 1; ``fields`` names the columns, of which ``item`` is the candidate and the others are the context.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from models.fit import Report
from models.protocols.click_model import learned
from models.protocols.click_table import Table
from models.protocols.click_yardsticks import yardsticks_of
from models.run import TrainConfig

#: Defaults for every file; ``batch`` counts rows here.
DEFAULTS = TrainConfig(
    size="small",
    epochs=60,
    patience=3,
    minutes=25.0,
    batch=1024,
    learning_rate=1e-3,
    history_length=2,
    input_dropout=0.3,
)

#: Settings that do nothing here, where nobody has a history.
IDLE = frozenset(
    ("pretrain_epochs", "per_window", "augment", "negatives", "hard_negatives", "horizon_days", "stack", "devices")
)


def run_click(path: Path, config: TrainConfig, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train on ``train``, stop and calibrate on ``valid``, report both: auc, logloss and ece of behaviour ``click``.

    The figures of ``valid`` are of the very rows of the calibration; ``cross-fitted`` stands beside them.
    ``yardsticks`` has the same figures by name; each network among them may take as long as the model.
    Raises ValueError as :meth:`Table.read` does.
    """
    keras.utils.set_random_seed(config.seed)
    table = Table.read(path)
    started = time.monotonic()
    scorer, history = learned(table, config, report)
    choice = scorer.calibrate()
    took = time.monotonic() - started
    return {
        "valid": {"click": scorer.figures("valid") | {"cross-fitted": choice["cross-fitted"]}},
        "test": {"click": scorer.figures("test")},
        "yardsticks": yardsticks_of(table, config, report),
        "train_seconds": round(took, 1),
        "parameters": sum(int(np.prod(v.shape)) for v in scorer.network.trainable_variables),
        "calibration": choice["method"],
        "learning": history,
    }
