"""Offline metrics, each small enough to check by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[Any]


def auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve of n rows; NaN where only one class occurs."""
    return float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else float("nan")


def log_loss(labels: Floats, probabilities: Floats) -> float:
    """Mean binary cross-entropy in nats; probabilities are held 1e-7 away from 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return float(-np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))


def expected_calibration_error(labels: Floats, probabilities: Floats, bins: int = 20) -> float:
    """Mean |observed - predicted| over bins of equally many rows, weighted by their size (Nguyen & O'Connor 2015)."""
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    gaps = [len(part) * abs(labels[part].mean() - probabilities[part].mean()) for part in parts if len(part)]
    return float(sum(gaps) / max(len(order), 1))


def ndcg_and_hit_rate(ranks: NDArray[np.int64], cutoff: int = 10) -> tuple[float, float]:
    """NDCG and hit rate at ``cutoff`` of n rows with one relevant item each, given its 1-based rank."""
    hits = ranks <= cutoff
    return float(np.mean(np.where(hits, 1 / np.log2(1.0 + ranks), 0.0))), float(np.mean(hits))


def binary_report(labels: Floats, probabilities: Floats) -> dict[str, float]:
    """AUC, log loss, calibration error, the rate of positives and the number of rows."""
    return {
        "auc": auc(labels, probabilities),
        "logloss": log_loss(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities),
        "rate": float(labels.mean()) if len(labels) else float("nan"),
        "rows": len(labels),
    }


def regression_report(amounts: Floats, expected: Floats) -> dict[str, float]:
    """Mean absolute and root mean squared error, and the number of rows."""
    error = expected - amounts
    return {
        "mae": float(np.mean(np.abs(error))) if len(error) else float("nan"),
        "rmse": float(np.sqrt(np.mean(error**2))) if len(error) else float("nan"),
        "rows": len(error),
    }
