"""What a click model is set against: popularity, logistic regression, SVM and DNN of all fields, boosted trees.

The item is one more field to them, so that the logistic regression is the one that is published for such tables: a
weight for every value of every field.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import TargetEncoder

from models.calibrate import logits_of
from models.fit import Report
from models.growth import TreesConfig
from models.metrics import auc
from models.protocols.click_model import calibration_of, chances_of, figures, learned
from models.protocols.click_table import Table
from models.run import TrainConfig

KINDS = ("logistic", "svm", "dnn")
SHOWN = ("valid", "test")
#: Clicks, and rows without one, that trees need in training: some for each part that they are cross-fitted on.
FEW = 50

Figures = dict[str, dict[str, dict[str, float]]]


def yardsticks_of(table: Table, config: TrainConfig, report: Report) -> dict[str, Figures]:
    """Name -> ``valid`` and ``test`` -> ``click`` -> figures; popularity is an order alone, so it has only an AUC.

    There are no trees where training has fewer than FEW clicks, or rows without one.
    """
    found = {"popularity": popularity(table)}
    for kind in KINDS:
        scorer, _ = learned(table.beside_item(), replace(config, model=kind), report)
        scorer.calibrate()
        found[kind] = {part: {"click": scorer.figures(part)} for part in SHOWN}
    if table.scarcer("train") < FEW:
        return found
    report("trees", 0, 1)
    return found | {"trees": trees(table, config.seed)}


def popularity(table: Table) -> Figures:
    """How often an item was clicked in the training rows."""
    counts = np.bincount(table.items["train"], table.labels["train"], table.size)
    return {part: {"click": {"auc": round(auc(table.labels[part], counts[table.items[part]]), 5)}} for part in SHOWN}


def trees(table: Table, seed: int) -> Figures:
    """Boosted trees on the mean label of each field's values (cross-fitted: Micci-Barreca 2001), sizes as in trees.py.

    They stop growing by a tenth of the training rows, and are calibrated on validation as networks are.
    """
    config = TreesConfig()
    rows: dict[str, Any] = {part: np.column_stack([table.items[part], table.context[part]]) for part in table.items}
    model = make_pipeline(
        TargetEncoder(target_type="binary", cv=StratifiedKFold(5, shuffle=True, random_state=seed)),
        HistGradientBoostingClassifier(
            learning_rate=config.learning_rate,
            max_iter=config.iterations,
            max_leaf_nodes=config.leaves,
            l2_regularization=config.l2,
            early_stopping=True,
            n_iter_no_change=config.patience,
            random_state=seed,
        ),
    ).fit(rows["train"], table.labels["train"])
    logits = {part: logits_of(model.predict_proba(rows[part])[:, 1]) for part in SHOWN}
    calibration, _ = calibration_of(logits["valid"], table.labels["valid"])
    return {part: {"click": figures(table.labels[part], chances_of(logits[part], calibration))} for part in SHOWN}
