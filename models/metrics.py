"""Offline metrics, each small enough to check by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[Any]

#: Bins of the calibration error.
BINS = 20
#: Places of a ranked list that count.
CUTOFF = 10


def auc(labels: Floats, scores: Floats) -> float:
    """Area under the ROC curve of n rows; NaN where only one class occurs.

    A label may be the probability of a yes. Then it is the number of pairs of a yes and a no that are expected to be in
    order, over that of all expected pairs (a row's with itself are ties), and luck has no part in it.
    """
    if not 0 < labels.sum() < len(labels):
        return float("nan")
    yes, no = labels > 0, labels < 1
    answers = np.repeat([1, 0], [yes.sum(), no.sum()])
    weights = np.concatenate([labels[yes], 1 - labels[no]])
    return float(roc_auc_score(answers, np.concatenate([scores[yes], scores[no]]), sample_weight=weights))


def log_losses(labels: Floats, probabilities: Floats) -> Floats:
    """Binary cross-entropy of each row in nats; probabilities are held 1e-7 away from 0 and 1."""
    p = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)))


def log_loss(labels: Floats, probabilities: Floats) -> float:
    """The mean of :func:`log_losses`."""
    return _mean(log_losses(labels, probabilities))


def quantile_bins(scores: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """The bin [n] of each row, bins of equally many rows, lowest scores first; ties are cut in the order of rows."""
    places = np.empty(len(scores), np.int64)
    order = np.argsort(scores, kind="stable")
    for number, part in enumerate(np.array_split(order, min(bins, max(len(order), 1)))):
        places[part] = number
    return places


def expected_calibration_error(labels: Floats, probabilities: Floats, bins: int = BINS) -> float:
    """Mean |observed - predicted| over bins of equally many rows, weighted by their size (Nguyen & O'Connor 2015); NaN
    of none."""
    if not len(labels):
        return float("nan")
    gaps = np.bincount(quantile_bins(probabilities, bins), labels - probabilities.astype(np.float64))
    return float(np.abs(gaps).sum() / len(labels))


def gains(ranks: NDArray[np.int64], cutoff: int = CUTOFF) -> Floats:
    """What each relevant item adds to its list's DCG (Järvelin & Kekäläinen 2002): 1 / log2(1 + rank) to ``cutoff``."""
    return np.where(ranks <= cutoff, 1 / np.log2(1.0 + ranks), 0.0)


def list_ndcg_and_hits(
    ranks: NDArray[np.int64], lists: NDArray[np.int64], cutoff: int = CUTOFF
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """NDCG and hit (is any relevant item among the first ``cutoff``?) of each of N lists, and one row of each list.

    Args:
        ranks: 1-based rank of each relevant item [n] within its list.
        lists: which list each of them belongs to [n], any whole numbers.
    """
    _, rows, place = np.unique(lists, return_index=True, return_inverse=True)
    dcg = np.bincount(place, gains(ranks, cutoff), len(rows))
    relevant = np.bincount(place, minlength=len(rows))
    ideal = np.cumsum(gains(np.arange(1, cutoff + 1), cutoff))[np.minimum(relevant, cutoff) - 1]
    return dcg / ideal, (dcg > 0).astype(np.float64), rows


def ndcg_and_hit_rate(ranks: NDArray[np.int64], cutoff: int = CUTOFF) -> tuple[float, float]:
    """NDCG and hit rate at ``cutoff`` of n lists with one relevant item each, given its 1-based rank."""
    ndcg, hits, _ = list_ndcg_and_hits(ranks, np.arange(len(ranks)), cutoff)
    return _mean(ndcg), _mean(hits)


def _mean(values: Floats) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else float("nan")
