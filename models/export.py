"""From trained network to artifact: the served functions, golden examples, atomic publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.artifact import Artifact, publish
from models.attribution import Attribution
from models.calibration import Calibration
from models.contract import FIRST, PAD, Contract
from models.decisions import Decisions
from models.log import Log
from models.network import Network, mean_vector
from models.past import Candidates, Catalogue, Events, Past
from models.topk import top_k
from models.vocabulary import Vocabulary

Tensor = Any


def complete(contract: Contract, network: Network) -> Contract:
    """The contract with the state shape that the network has."""
    return replace(contract, state_shape=(contract.history_length, network.state_width))


class Served(tf.Module):  # type: ignore[misc]
    """The exported module: a network with its catalogue laid out as three tables that may grow without a restart.

    ``vectors`` [V, width], ``categories`` [V, levels] and ``numbers`` [V, 3] have a row for each item id. Whoever loads
    the model may assign longer tables, whose new rows come from ``embed_items``.

    Args:
        calibration: what turns the network's logits into those of probabilities; None leaves them as they are.
    """

    def __init__(self, network: Network, calibration: Calibration | None = None) -> None:
        super().__init__()
        self.network = network
        self.calibration = calibration or Calibration.none(network.contract.targets)
        self.contract = complete(network.contract, network)
        vectors, _ = network.catalogue_vectors(tf.range(network.contract.items))
        self.vectors = growable(vectors)
        self.categories = growable(tf.cast(network.categories, tf.int64))  # int32 stays on the host, also on a GPU
        self.numbers = growable(network.numbers)
        self._traced: dict[str, Any] = {}

    @property
    def names(self) -> list[str]:
        """Of the functions that this network has."""
        return [name for name in self.contract.signatures() if name != "query" or self.network.by_vector]

    def function(self, name: str) -> Any:
        """A concrete function; traced when it is first asked for, since that takes seconds and a training asks for
        half of them."""
        if name not in self._traced:
            inputs = self.contract.signatures()[name].inputs
            self._traced[name] = tf.function(getattr(self, name), autograph=False).get_concrete_function(
                **{key: tf.TensorSpec(s.shape, s.dtype, key) for key, s in inputs.items()}
            )
        return self._traced[name]

    @property
    def category_ids(self) -> Tensor:
        """``categories`` as the network takes them."""
        return tf.cast(self.categories, tf.int32)

    def encode(self, **history: Tensor) -> dict[str, Tensor]:
        """Histories [B, L] -> ``state`` [B, L, width]; rows of padding are zero."""
        events = Events.of(history)
        vectors, shown = (tf.gather(self.vectors, items) for items in (events.items, events.exposed))
        state = self.network.encode(events, vectors, mean_vector(shown, events.exposed))
        state *= tf.cast(events.items != PAD, tf.float32)[..., None]
        return {"state": tf.cast(state, self.contract.state_dtype)}

    def embed_items(self, items: Tensor, categories: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Content of N items -> ``vectors`` [N, width]; give UNKNOWN as the id of an item the vocabulary lacks."""
        return {"vectors": self.network.item_vectors(items, categories, numbers)}

    def retrieve(
        self, state: Tensor, lengths: Tensor, context: Tensor, since: Tensor, allowed: Tensor
    ) -> dict[str, Tensor]:
        """The best ``retrieval_size`` allowed items by :meth:`relevance`: ``items`` and falling ``scores`` [B, K].

        Items that are not allowed come last, with a score of -inf.
        """
        relevance = self.relevance(state, lengths, context, since, allowed)["scores"]
        scores, items = top_k(relevance, self.contract.retrieval_size, self.contract.items)
        return {"items": items, "scores": scores}

    def relevance(
        self, state: Tensor, lengths: Tensor, context: Tensor, since: Tensor, allowed: Tensor
    ) -> dict[str, Tensor]:
        """How well each item suits each state: ``scores`` [B, V'], -inf for those that are not allowed.

        ``allowed`` is [B or 1, V'] for the first V' item ids, V' at most the tables' length.
        """
        known = tf.shape(allowed)[1]
        catalogue = Catalogue(self.vectors[:known], self.category_ids[:known], self.numbers[:known])
        scores = self.network.catalogue_scores(Past.whole(state, lengths, since), context, catalogue)
        return {"scores": tf.where(allowed, scores, -float("inf"))}

    def query(self, state: Tensor, lengths: Tensor, context: Tensor, since: Tensor) -> dict[str, Tensor]:
        """What ``retrieve`` ranks by: an item scores ``query`` [B, width] times its vector, plus the ``bonus`` [B, L]
        of every event that was about it."""
        query, bonus = self.network.retrieval(Past.whole(state, lengths, since), context)
        return {"query": query, "bonus": bonus}

    def score(
        self, state: Tensor, lengths: Tensor, context: Tensor, since: Tensor, candidates: Tensor
    ) -> dict[str, Tensor]:
        """Probability of each target and the middle size of each value for candidates [B, C], each [B, C]."""
        vectors, numbers = (tf.gather(table, candidates) for table in (self.vectors, self.numbers))
        items = Candidates(candidates, vectors, numbers, context[:, None])  # one moment for all
        logits = self.network.score(Past.whole(state, lengths, since), items, self.category_ids)
        targets, values = self.contract.targets, self.contract.values
        chances = tf.sigmoid(self.calibration(logits[..., : len(targets)], lengths))  # [B, C, T]
        outputs = {name: chances[..., i] for i, name in enumerate(targets)}
        for i, name in enumerate(values):
            log_size = self.calibration.sized(name, logits[..., len(targets) + i])
            outputs[name] = tf.exp(log_size) * self.contract.value_scales[name]
        return outputs

    def explain(
        self, lengths: Tensor, context: Tensor, since: Tensor, candidates: Tensor, **history: Tensor
    ) -> dict[str, Tensor]:
        """What moved the log-odds of each target: see :meth:`models.attribution.Attribution.batch`."""
        catalogue = Catalogue(self.vectors, self.category_ids, self.numbers)
        attribution = Attribution(self.network, self.contract, catalogue, self.calibration)
        return attribution.batch(Events.of(history), lengths, context, since, candidates)

    def save(self, path: Path) -> None:
        """Write the SavedModel."""
        tf.saved_model.save(self, str(path), signatures={name: self.function(name) for name in self.names})


def growable(rows: Tensor) -> tf.Variable:
    """A variable that may be assigned more rows later."""
    return tf.Variable(rows, trainable=False, shape=[None, *rows.shape[1:]])


def golden_examples(decisions: Decisions, log: Log, count: int = 8) -> list[dict[str, Any]]:
    """Raw examples made of some decisions: histories of all lengths, an empty one first, and an item nobody knows."""
    order = np.argsort(decisions.before, kind="stable")
    rows = order[np.linspace(0, len(order) - 1, count).astype(int)]
    examples = [_raw_example(decisions, log, int(row)) for row in rows]
    examples[0]["events"] = []
    for example in examples:
        example["candidates"] += [examples[1]["candidates"][0], examples[-1]["candidates"][0], "no such item"]
    return examples


def _raw_example(decisions: Decisions, log: Log, row: int) -> dict[str, Any]:
    first, contract, vocabulary = log.offsets[decisions.user[row]], log.contract, log.vocabulary
    last = first + decisions.before[row]
    events = [
        [
            vocabulary.item_name(int(log.items[i])),
            contract.behaviours[log.types[i] - FIRST].name,
            float(log.at[i]),
            None if np.isnan(log.values[i]) else float(log.values[i]),
            _shown(log, i),
        ]
        for i in range(max(first, last - contract.history_length), last)
    ]
    known: dict[str, dict[str, str]] = {"request": {}, "user": {}}
    for field, value in zip(contract.fields, decisions.context[row].tolist(), strict=True):
        if field.source != "clock" and value >= FIRST:
            known[field.source][field.name] = vocabulary.fields[field.name][value - FIRST]
    return {
        "events": events,
        "context": known["request"],
        "profile": known["user"],
        "at": float(decisions.at[row]),
        "candidates": [vocabulary.item_name(int(decisions.items[row]))],
    }


def _shown(log: Log, event: int) -> list[str] | None:
    """The items shown before an event of the log, None where nobody knows."""
    items = log.exposed.items[slice(*log.exposed.bounds[event])].tolist()
    return [log.vocabulary.item_name(item) for item in items] if log.exposed.known else None


def export(
    network: Network,
    root: Path,
    name: str,
    *,
    kind: str,
    vocabulary: Vocabulary,
    golden: list[dict[str, Any]],
    metrics: Mapping[str, Any],
    facts: Mapping[str, Any],
    calibration: Calibration | None = None,
) -> Artifact:
    """Publish the network, calibrated, as the next version of ``name`` below ``root``."""
    served = Served(network, calibration)
    return publish(
        root,
        name,
        kind=kind,
        contract=served.contract,
        vocabulary=vocabulary,
        golden=golden,
        metrics=metrics,
        facts={"tensorflow": tf.__version__, **facts},
        save_model=served.save,
    )
