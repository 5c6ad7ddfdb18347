"""Answers of a model to decisions, through the very functions that the service calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.artifact import Artifact
from models.contract import FIRST, Contract
from models.decisions import Decisions
from models.encode import Arrays, History, encode_history, hours
from models.golden import Functions
from models.log import Log

#: Rows that one call of a served function takes here.
CHUNK = 1024
#: Lists that are retrieved, and their items scored, by one call.
LISTS = 64

Rows = NDArray[np.int64]
Advance = Callable[[int, int], None]


def functions_of(function: Callable[[str], Any], names: Iterable[str], contract: Contract) -> Functions:
    """The TensorFlow functions of a network, just built or loaded, as numpy in, numpy out.

    Args:
        function: finds one by its signature name, when it is called.
        names: of those that there are.
    """

    def call(name: str) -> Callable[[Arrays], Arrays]:
        signature = contract.signatures()[name]

        def run(arrays: Arrays) -> Arrays:
            inputs = {key: tf.constant(arrays[key], spec.dtype) for key, spec in signature.inputs.items()}
            return {key: value.numpy() for key, value in function(name)(**inputs).items()}

        return run

    return {name: call(name) for name in names}


def load_functions(artifact: Artifact) -> Functions:
    """The served functions of a published artifact."""
    module = tf.saved_model.load(str(artifact.saved_model))  # kept by the functions, which do not keep its variables
    names = [name for name in artifact.contract.signatures() if name in module.signatures]
    return functions_of(lambda name: module.signatures[name], names, artifact.contract)


@dataclass(frozen=True, slots=True)
class Scored:
    """Probabilities [R, T] and expected values [R, N] of R decisions."""

    probabilities: NDArray[np.float32]
    values: NDArray[np.float32]


class Contender(Protocol):
    """What can be evaluated: a served model (:class:`Scorer`), or anything that answers the same two questions."""

    def score(self, decisions: Decisions) -> Scored:
        """Probabilities and values of every decision, in the neutral position."""

    def ranks(self, moves: Decisions) -> Rows:
        """The 1-based rank of each move's item among all items [M]; one that was not found has a rank beyond 10."""


class Scorer:
    """Scores decisions with served functions: each distinct history is encoded once, as the service would."""

    def __init__(self, log: Log, functions: Functions) -> None:
        self.log = log
        self.functions = functions

    def states(self, user: Rows, before: Rows) -> tuple[Arrays, Rows]:
        """States and lengths of the distinct (user, before) pairs, and the pair of each row [R]."""
        pairs, index = np.unique(np.stack([user, before], axis=1), axis=0, return_inverse=True)
        contract = self.log.contract
        parts = []
        for start in range(0, len(pairs), CHUNK):
            rows = [encode_history(self.history(u, n), contract) for u, n in pairs[start : start + CHUNK]]
            parts.append(self.functions["encode"]({k: np.stack([row[k] for row in rows]) for k in rows[0]})["state"])
        lengths = np.minimum(pairs[:, 1], contract.history_length).astype(np.int32)
        return {"state": np.concatenate(parts), "lengths": lengths}, index.ravel()

    def since(self, decisions: Decisions) -> NDArray[np.float32]:
        """Hours from each decision's newest event to the decision [R]."""
        return hours(decisions.at - self.log.last_at(decisions.user, decisions.before))

    def history(self, user: int, before: int) -> History:
        """The first ``before`` events of a user."""
        log = self.log
        part = slice(log.offsets[user], log.offsets[user] + before)
        shown = log.exposed.newest(part, log.contract.exposed), log.exposed.counts(part)
        return History(log.items[part], log.types[part], log.at[part], log.values[part], *shown)

    def score(self, decisions: Decisions, advance: Advance | None = None) -> Scored:
        """Probabilities and values of every decision, in serving's neutral position."""
        states, index = self.states(decisions.user, decisions.before)
        since = self.since(decisions)
        contract, parts = self.log.contract, []
        for start in range(0, len(decisions), CHUNK):
            rows = slice(start, start + CHUNK)
            inputs = {name: array[index[rows]] for name, array in states.items()}
            inputs |= {"context": decisions.context[rows], "since": since[rows]}
            inputs["candidates"] = decisions.items[rows, None]
            parts.append(self.functions["score"](inputs))
            if advance:
                advance(min(start + CHUNK, len(decisions)), len(decisions))
        outputs = {name: np.concatenate([part[name][:, 0] for part in parts]) for name in parts[0]}
        return Scored(_stack(outputs, contract.targets), _stack(outputs, contract.values))

    def ranks(self, moves: Decisions) -> Rows:
        """The 1-based rank of each move's item among all items; beyond ``retrieval_size`` it counts as V."""
        return self._ranks(moves, ())[:, 0]

    def ranks_by_target(self, moves: Decisions) -> Rows:
        """Ranks [M, 1 + T]: as retrieved, then by each target's probability among what was retrieved.

        The latter is what a request gets: ``retrieve`` finds ``retrieval_size`` items, ``score`` puts them in order.
        """
        return self._ranks(moves, self.log.contract.targets)

    def _ranks(self, moves: Decisions, targets: tuple[str, ...]) -> Rows:
        states, index = self.states(moves.user, moves.before)
        since = self.since(moves)
        keys = np.concatenate([index[:, None], moves.context, since.view(np.int32)[:, None]], axis=1)
        _, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)  # equal questions, asked once
        order = np.argsort(place.ravel(), kind="stable")
        bounds = np.searchsorted(place.ravel()[order], np.arange(len(first) + 1))
        ranks = np.empty((len(moves), 1 + len(targets)), np.int64)
        for start in range(0, len(first), LISTS):
            lists = first[start : start + LISTS]
            inputs = {name: array[index[lists]] for name, array in states.items()}
            inputs |= {"context": moves.context[lists], "since": since[lists]}
            orders = self._orders(inputs, targets)
            rows = order[bounds[start] : bounds[start + len(lists)]]
            ranks[rows] = self._places(orders, place.ravel()[rows] - start, moves.items[rows])
        return ranks

    def _orders(self, inputs: Arrays, targets: tuple[str, ...]) -> list[NDArray[np.int32]]:
        """Item ids [B, K], best first: as retrieved, then by each target; equal probabilities stay as retrieved."""
        allowed = np.arange(self.log.contract.items)[None] >= FIRST
        found = self.functions["retrieve"]({**inputs, "allowed": allowed})["items"]
        if not targets:
            return [found]
        scored = self.functions["score"]({**inputs, "candidates": found})
        orders = (np.argsort(-scored[name], axis=1, kind="stable") for name in targets)
        return [found, *(np.take_along_axis(found, order, axis=1) for order in orders)]

    def _places(self, orders: list[NDArray[np.int32]], lists: Rows, items: NDArray[np.int32]) -> Rows:
        """Ranks [n, orders] of items [n] in the lists [n]; V where an item is not among them."""
        hits = np.stack([order[lists] == items[:, None] for order in orders], axis=1)  # [n, orders, K]
        return np.where(hits.any(axis=2), 1 + hits.argmax(axis=2), self.log.contract.items)


def at_position(
    probabilities: NDArray[np.float32], shown: NDArray[np.int32], examination: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Neutral probabilities [R, T] as they are at the shown places [R]: times the chance that those are looked at."""
    return np.asarray(probabilities * looked_at(shown, examination)[:, None], np.float32)


def looked_at(shown: NDArray[np.int32], examination: NDArray[np.float32]) -> NDArray[np.float32]:
    """The chance that each of the shown places [R] is looked at; what lies beyond the last known counts as there."""
    return np.asarray(examination[np.clip(shown, 0, len(examination) - 1)])


def _stack(outputs: Arrays, names: tuple[str, ...]) -> NDArray[np.float32]:
    rows = len(next(iter(outputs.values())))
    return np.stack([outputs[name] for name in names], axis=1) if names else np.zeros((rows, 0), np.float32)
