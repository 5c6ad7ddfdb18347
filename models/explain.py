"""Explanations of a published model as a library, and how faithful they are."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact
from models.contract import FIRST
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.encode import Event, History, encode_context, encode_history, encode_profile, hours, to_history
from models.explanation import Explanation, read_explanations
from models.golden import Functions
from models.intervals import Estimate, Resamples
from models.log import Split, build_log
from models.questions import decisions_of, part_of
from models.scoring import Scorer, load_functions

Floats = NDArray[np.float64]

#: Predictions among which those with a history of two events or more are looked for.
POOL = 100_000


class Unexplained(ValueError):
    """A model without the signature ``explain``, or data with nothing to explain. The message is one sentence."""


def explain(
    artifact: Artifact,
    history: Sequence[Event],
    candidates: Sequence[str],
    context: Mapping[str, Any] | None = None,
    profile: Mapping[str, Any] | None = None,
    at: float | None = None,
    functions: Functions | None = None,
) -> list[dict[str, Explanation]]:
    """What moved the predictions of some items for one user: for each candidate an explanation of each target.

    Args:
        history: what the user did, oldest first.
        candidates: external ids of the items; one that the model does not know is explained as an unknown item.
        context, profile: fields of the moment and of the user.
        at: the time of the question, in seconds since 1970 UTC; now, if left out.
        functions: of the artifact, if they are loaded already (:func:`models.scoring.load_functions`).

    Raises:
        Unexplained: the artifact was exported before models could explain themselves.
    """
    contract, vocabulary = artifact.contract, artifact.vocabulary
    columns = to_history(history, vocabulary, contract)
    user = encode_profile(profile or {}, vocabulary, contract)
    moment = time.time() if at is None else at
    scene = encode_context(context or {}, user, moment, columns.last_at, vocabulary, contract)
    inputs = {name: array[None] for name, array in encode_history(columns, contract).items()}
    inputs |= {
        "lengths": np.array([min(len(columns), contract.history_length)], np.int32),
        "context": scene.fields[None],
        "since": np.array([scene.since], np.float32),
        "candidates": vocabulary.item_ids(candidates)[None],
    }
    parts = _able(artifact, functions or load_functions(artifact))["explain"](inputs)
    return read_explanations({k: v[0] for k, v in parts.items()}, history, scene.fields, contract, vocabulary)


def faithfulness(
    artifact: Artifact,
    dataset: Dataset,
    predictions: int = 1000,
    seed: int = 0,
    *,
    part: str = "test",
    functions: Functions | None = None,
) -> dict[str, Any]:
    """How much more a prediction changes without the event that moved it most than without a random one.

    The event is taken out of the raw history, which is encoded and scored anew; the context stays. A change is that of
    the log-odds of a target, as it is served; so where a history becomes so short that another line of the calibration
    holds, both changes have that in them too. All targets of ``predictions`` random predictions whose history has two
    events or more count.

    Returns:
        ``top`` and ``random``, the mean changes by the event of the largest absolute contribution and by a random one
        (each with a 95 % interval from a bootstrap over users), ``ratio`` of the two with its interval, the same by
        target in ``targets``, the number of ``predictions``, and ``additivity``: the mean distance of the
        probability that base plus contributions stand for from the served one.

    Raises:
        Unexplained: the artifact cannot explain itself, or nobody in that period has two events.
    """
    functions = _able(artifact, functions or load_functions(artifact))
    split = Split.of(artifact)
    log = build_log(dataset, artifact.vocabulary, artifact.contract, split.learned)
    decisions = decisions_of(dataset, log, *part_of(split, part), POOL, seed, horizon_days=artifact.horizon_days)
    usable = np.flatnonzero((decisions.before >= 2) & (decisions.items >= FIRST))
    if not len(usable):
        raise Unexplained(f"Nobody in the {part} time of {dataset.name} has a history of two events to explain.")
    rng = np.random.default_rng(seed)
    decisions = decisions.take(rng.permutation(usable)[:predictions])
    changes = _changes(Scorer(log, functions), decisions, rng)
    draws = Resamples(decisions.user)
    targets = {
        name: _compared(draws, decisions.user, changes["top"][:, i], changes["random"][:, i])
        for i, name in enumerate(artifact.contract.targets)
    }
    return {
        **_compared(draws, decisions.user, changes["top"].mean(axis=1), changes["random"].mean(axis=1)),
        "additivity": float(changes["gap"].mean()),
        "predictions": len(decisions),
        "targets": targets,
    }


def _able(artifact: Artifact, functions: Functions) -> Functions:
    if "explain" not in functions:
        raise Unexplained(f"{artifact.path} cannot explain itself; export the model again.")
    return functions


def _changes(scorer: Scorer, decisions: Decisions, rng: np.random.Generator) -> dict[str, Floats]:
    """Changes of log-odds [R, T]: ``top`` and ``random``; and ``gap``, by how much probabilities do not add up."""
    contract, since = scorer.log.contract, scorer.since(decisions)
    columns: dict[str, list[Floats]] = {"top": [], "random": [], "gap": []}
    for row in range(len(decisions)):
        history = scorer.history(int(decisions.user[row]), int(decisions.before[row]))
        inputs = {name: array[None] for name, array in encode_history(history, contract).items()}
        length = min(len(history), contract.history_length)
        asked = {"context": decisions.context[row : row + 1], "since": since[row : row + 1]}
        asked["candidates"] = decisions.items[row : row + 1, None]
        parts = scorer.functions["explain"]({**inputs, **asked, "lengths": np.array([length], np.int32)})
        top = np.abs(parts["events"][0, 0, :, -length:]).argmax(axis=1)  # [T]
        gone = [*top.tolist(), int(rng.integers(length))]
        whole, *less = _log_odds(
            scorer, [history, *(_without(history, len(history) - length + i) for i in gone)], asked
        )
        columns["top"].append(np.abs(whole - np.diagonal(less[:-1])))
        columns["random"].append(np.abs(whole - less[-1]))
        total = parts["base"] + sum(parts[name].sum(axis=-1) for name in ("events", "context", "attributes"))
        columns["gap"].append(np.abs(_sigmoid(total[0, 0]) - _sigmoid(whole)))  # near 1, float32 has no exact log-odds
    return {name: np.stack(rows) for name, rows in columns.items()}


def _log_odds(scorer: Scorer, histories: list[History], asked: Mapping[str, NDArray[Any]]) -> Floats:
    """Log-odds [N, T] of one candidate in one context, for N histories."""
    contract, count = scorer.log.contract, len(histories)
    rows = [encode_history(history, contract) for history in histories]
    inputs = {name: np.repeat(array, count, axis=0) for name, array in asked.items()}
    inputs |= scorer.functions["encode"]({name: np.stack([row[name] for row in rows]) for name in rows[0]})
    inputs["lengths"] = np.array([min(len(history), contract.history_length) for history in histories], np.int32)
    newest = np.array([history.last_at for history in histories], np.float64)  # the first history is the whole one
    inputs["since"] = inputs["since"] + hours(newest[0] - newest)
    scored = scorer.functions["score"](inputs)
    chance = np.stack([scored[name][:, 0] for name in contract.targets], axis=1).astype(np.float64)
    chance = np.clip(chance, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(chance) - np.log1p(-chance))


def _sigmoid(log_odds: NDArray[Any]) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds.astype(np.float64))))


def _without(history: History, place: int) -> History:
    """The history less one event."""
    return history.take(np.arange(len(history)) != place)


def _compared(draws: Resamples, users: NDArray[np.int64], top: Floats, random: Floats) -> dict[str, Any]:
    first, second = draws.mean(users, top), draws.mean(users, random)
    return {name: _told(e) for name, e in (("top", first), ("random", second), ("ratio", first.ratio(second)))}


def _told(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "interval": list(estimate.interval())}
