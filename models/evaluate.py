"""What a model is worth on decisions it has not seen, through the very functions that the service calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.artifact import Artifact
from models.contract import FIRST, PAD, Contract
from models.datasets.dataset import Dataset
from models.encode import Arrays, History, encode_history
from models.golden import Functions
from models.log import Log, Split, build_log
from models.metrics import auc, binary_report, ndcg_and_hit_rate, regression_report
from models.samples import Decisions, event_decisions, exposure_decisions, with_negatives

#: Rows that one call of a served function takes here.
CHUNK = 1024

Advance = Callable[[int, int], None]


def functions_of(served: Mapping[str, Any], contract: Contract) -> Functions:
    """TensorFlow functions by signature name (just built or loaded) as numpy in, numpy out."""

    def call(name: str) -> Callable[[Arrays], Arrays]:
        function, signature = served[name], contract.signatures()[name]

        def run(arrays: Arrays) -> Arrays:
            inputs = {key: tf.constant(arrays[key], spec.dtype) for key, spec in signature.inputs.items()}
            return {key: value.numpy() for key, value in function(**inputs).items()}

        return run

    return {name: call(name) for name in contract.signatures()}


def load_functions(artifact: Artifact) -> Functions:
    """The served functions of a published artifact."""
    module = tf.saved_model.load(str(artifact.saved_model))
    functions = functions_of(module.signatures, artifact.contract)
    functions["encode"].__dict__["module"] = module  # a loaded function does not keep its variables alive
    return functions


@dataclass(frozen=True, slots=True)
class Scored:
    """Probabilities [R, T] and expected values [R, N] of R decisions."""

    probabilities: NDArray[np.float32]
    values: NDArray[np.float32]


class Scorer:
    """Scores decisions with served functions: each distinct history is encoded once, as the service would."""

    def __init__(self, log: Log, functions: Functions) -> None:
        self.log = log
        self.functions = functions

    def states(self, user: NDArray[np.int64], before: NDArray[np.int64]) -> tuple[Arrays, NDArray[np.int64]]:
        """States and lengths of the distinct (user, before) pairs, and the pair of each row [R]."""
        pairs, index = np.unique(np.stack([user, before], axis=1), axis=0, return_inverse=True)
        contract = self.log.contract
        parts = []
        for start in range(0, len(pairs), CHUNK):
            rows = [encode_history(self.history(u, n), contract) for u, n in pairs[start : start + CHUNK]]
            parts.append(self.functions["encode"]({k: np.stack([row[k] for row in rows]) for k in rows[0]})["state"])
        lengths = np.minimum(pairs[:, 1], contract.history_length).astype(np.int32)
        return {"state": np.concatenate(parts), "lengths": lengths}, index.ravel()

    def history(self, user: int, before: int) -> History:
        """The first ``before`` events of a user."""
        log = self.log
        part = slice(log.offsets[user], log.offsets[user] + before)
        return History(log.items[part], log.types[part], log.at[part], log.values[part])

    def score(self, decisions: Decisions, advance: Advance | None = None) -> Scored:
        """Probabilities and values of every decision, in serving's neutral position."""
        states, index = self.states(decisions.user, decisions.before)
        contract, parts = self.log.contract, []
        for start in range(0, len(decisions), CHUNK):
            rows = slice(start, start + CHUNK)
            inputs = {name: array[index[rows]] for name, array in states.items()}
            inputs |= {"context": decisions.context[rows], "candidates": decisions.items[rows, None]}
            parts.append(self.functions["score"](inputs))
            if advance:
                advance(min(start + CHUNK, len(decisions)), len(decisions))
        outputs = {name: np.concatenate([part[name][:, 0] for part in parts]) for name in parts[0]}
        return Scored(_stack(outputs, contract.targets), _stack(outputs, contract.values))

    def ranks(self, moves: Decisions) -> NDArray[np.int64]:
        """The 1-based rank of each move's item among all items; beyond ``retrieval_size`` it counts as V."""
        states, index = self.states(moves.user, moves.before)
        allowed = np.arange(self.log.contract.items)[None] >= FIRST
        ranks = np.full(len(moves), self.log.contract.items, np.int64)
        for start in range(0, len(moves), CHUNK // 8):
            rows = slice(start, start + CHUNK // 8)
            inputs = {name: array[index[rows]] for name, array in states.items()}
            found = self.functions["retrieve"]({**inputs, "context": moves.context[rows], "allowed": allowed})["items"]
            hit = found == moves.items[rows, None]
            ranks[rows] = np.where(hit.any(axis=1), 1 + hit.argmax(axis=1), ranks[rows])
        return ranks


def decisions_of(
    dataset: Dataset, log: Log, start: float, end: float, limit: int, seed: int = 0, *, matched: bool = False
) -> Decisions:
    """At most ``limit`` decisions of a period, drawn at random; with negatives where nothing was shown.

    Negatives are drawn as in training, or ``matched``: from the items that others acted on in the same period.
    """
    shown = dataset.exposures is not None
    decisions = (exposure_decisions(dataset, log) if shown else event_decisions(log)).between(start, end)
    pool = decisions.items if matched else None
    rng = np.random.default_rng(seed)
    take = limit if shown else limit // (log.contract.negatives + 1)
    if len(decisions) > take:
        decisions = decisions.take(np.sort(rng.choice(len(decisions), take, replace=False)))
    return decisions if shown else with_negatives(decisions, log.contract, rng, pool)


def evaluate(
    dataset: Dataset,
    log: Log,
    split: Split,
    functions: Functions,
    position_bias: NDArray[np.float32],
    *,
    part: str = "validation",
    limit: int = 100_000,
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Metrics of one period (``validation`` or ``test``), the yardsticks' on the same rows, and the oracle's if known.

    Probabilities are read at the position at which an item was shown (``position_bias`` [positions, T], logits);
    ranking metrics are over the whole catalogue. Where nothing says what was shown, ``matched_auc`` sets each event
    against items that others acted on at the time: neither popularity nor having been new helps there.

    Raises:
        ValueError: nothing happened in that period.
    """
    start, end = (split.validation, split.test) if part == "validation" else (split.test, float("inf"))
    decisions = decisions_of(dataset, log, start, end, limit)
    moves = event_decisions(log).between(start, end)
    if not len(decisions) or not len(moves):
        raise ValueError(f"The data set {dataset.name} has nothing to measure in the model's {part} time.")
    scorer = Scorer(log, functions)
    scored = scorer.score(decisions, advance)
    probabilities = at_position(scored.probabilities, decisions.shown, position_bias)
    report: dict[str, Any] = {"model": _binary(log.contract, decisions, probabilities)}
    report["model"] |= _values(log.contract, decisions, scored.values)
    report["popularity"] = _popularity(log, decisions, split.validation)
    report["mean"] = _mean_values(log, decisions, split.validation)
    if decisions.truth is not None:
        report["oracle"] = _binary(log.contract, decisions, decisions.truth)
    if dataset.exposures is None:
        _add_matched_auc(report, scorer, decisions_of(dataset, log, start, end, limit, matched=True), split.validation)
    rng = np.random.default_rng(1)
    moves = moves.take(np.sort(rng.permutation(len(moves))[: limit // 50]))
    report["model"]["retrieval"] = _ranking(scorer.ranks(moves))
    report["popularity"]["retrieval"] = _ranking(_popularity_ranks(log, moves, split.validation))
    return report


def evaluate_artifact(
    artifact: Artifact, dataset: Dataset, part: str, limit: int, advance: Advance | None = None
) -> dict[str, Any]:
    """:func:`evaluate` for a published artifact, on the time split it was trained with."""
    split = Split(**artifact.manifest["split"])
    log = build_log(dataset, artifact.vocabulary, artifact.contract, split.validation)
    bias = np.asarray(artifact.manifest["position_bias"], np.float32)
    return evaluate(dataset, log, split, load_functions(artifact), bias, part=part, limit=limit, advance=advance)


def at_position(
    probabilities: NDArray[np.float32], shown: NDArray[np.int32], bias: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Neutral probabilities [R, T] as they would be at the shown positions [R]; 0 and 1 leave them unchanged."""
    place = np.clip(shown, 0, len(bias) - 1)
    shift = np.where((place > 1)[:, None], bias[place], 0.0)
    p = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    return np.asarray(1 / (1 + np.exp(-(np.log(p / (1 - p)) + shift))), np.float32)


def _stack(outputs: Arrays, names: tuple[str, ...]) -> NDArray[np.float32]:
    rows = len(next(iter(outputs.values())))
    return np.stack([outputs[name] for name in names], axis=1) if names else np.zeros((rows, 0), np.float32)


def _binary(contract: Contract, decisions: Decisions, probabilities: NDArray[np.float32]) -> dict[str, Any]:
    report = {}
    for i, name in enumerate(contract.targets):
        known = decisions.weights[:, i] > 0
        report[name] = binary_report(decisions.labels[known, i], probabilities[known, i])
    return report


def _values(contract: Contract, decisions: Decisions, expected: NDArray[np.float32]) -> dict[str, Any]:
    report = {}
    for i, name in enumerate(contract.values):
        known = np.isfinite(decisions.values[:, i])
        report[name] = regression_report(decisions.values[known, i], expected[known, i])
    return report


def _add_matched_auc(report: dict[str, Any], scorer: Scorer, decisions: Decisions, before: float) -> None:
    probabilities = scorer.score(decisions).probabilities
    popularity = _popularity(scorer.log, decisions, before)
    for i, name in enumerate(scorer.log.contract.targets):
        known = decisions.weights[:, i] > 0
        report["model"][name]["matched_auc"] = auc(decisions.labels[known, i], probabilities[known, i])
        report["popularity"][name]["matched_auc"] = popularity[name]["auc"]


def _popularity(log: Log, decisions: Decisions, before: float) -> dict[str, Any]:
    """AUC of counting, for each target, how often the item had it in training."""
    report = {}
    for i, name in enumerate(log.contract.targets):
        past = log.items[(log.at < before) & (log.types == log.contract.type_id(name))]
        counts = np.bincount(past, minlength=log.contract.items)[decisions.items]
        known = decisions.weights[:, i] > 0
        report[name] = {"auc": auc(decisions.labels[known, i], counts[known])}
    return report


def _mean_values(log: Log, decisions: Decisions, before: float) -> dict[str, Any]:
    """Errors of predicting the training mean of the item, or of all items where it has none."""
    report = {}
    for i, name in enumerate(log.contract.values):
        carrier = next(b.name for b in log.contract.behaviours if b.value == name)
        past = (log.at < before) & np.isfinite(log.values) & (log.types == log.contract.type_id(carrier))
        sums = np.bincount(log.items[past], log.values[past], log.contract.items)
        counts = np.bincount(log.items[past], minlength=log.contract.items)
        overall = sums.sum() / max(counts.sum(), 1)
        means = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
        known = np.isfinite(decisions.values[:, i])
        report[name] = regression_report(decisions.values[known, i], means[decisions.items[known]])
    return report


def _popularity_ranks(log: Log, moves: Decisions, before: float) -> NDArray[np.int64]:
    counts = np.bincount(log.items[log.at < before], minlength=log.contract.items)
    counts[:FIRST] = PAD - 1
    order = np.argsort(-counts, kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = 1 + np.arange(len(order))
    return ranks[moves.items]


def _ranking(ranks: NDArray[np.int64]) -> dict[str, float]:
    ndcg, hit_rate = ndcg_and_hit_rate(ranks)
    return {"ndcg@10": ndcg, "hr@10": hit_rate, "rows": len(ranks)}
