"""Yardsticks behind the same interface as the Transformer, served by the same commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from models.contract import ITEM_NUMBERS, STATE_TAIL, Contract
from models.encode import Arrays
from models.matches import match_catalogue, match_features, match_width, pack_tail
from models.network import Network
from models.past import Candidates, Catalogue, Past

Tensor = Any


@dataclass(frozen=True, slots=True)
class LogisticConfig:
    """L2 strength on the weights of the logistic regression."""

    l2: float = 1e-5


class Logistic(Network):
    """Logistic regression on hand-made features: matches with the history, price, popularity, context.

    Amounts are a gamma regression with log link on the same features. Its state is the history itself; its item vectors
    are empty but for one column, since it finds items by scoring the catalogue.
    """

    def __init__(self, contract: Contract, content: Arrays, config: LogisticConfig) -> None:
        super().__init__(contract, content, negatives=0, retrieval_weight=0.0)
        self.state_width = STATE_TAIL
        outputs = len(contract.targets) + len(contract.values)
        decay = keras.regularizers.L2(config.l2)
        inputs = match_width(len(contract.behaviours), len(contract.category_sizes)) + ITEM_NUMBERS
        self.linear = self.add_weight(name="linear", shape=(inputs, outputs), initializer="zeros", regularizer=decay)
        self.bias = self.add_weight(name="bias", shape=(outputs,), initializer="zeros")
        self.context_tables = [
            self.add_weight(name=f"context_{f.name}", shape=(f.size, outputs), initializer="zeros", regularizer=decay)
            for f in contract.fields
        ]
        self.build_position_bias()

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """The numbers alone [..., 3]: a linear model has no learned vectors."""
        return numbers

    def encode(
        self,
        items: Tensor,
        types: Tensor,
        gaps: Tensor,
        values: Tensor,
        vectors: Tensor,
        training: bool = False,
    ) -> Tensor:
        """The events themselves [B, L, STATE_TAIL]."""
        return pack_tail(items, types)

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """One linear function of the features a target or value, [B, D, targets + values]."""
        behaviours = len(self.contract.behaviours)
        matches = match_features(*past.events, past.visible, candidates.items, categories, behaviours)
        features = tf.concat([matches, candidates.numbers], axis=-1)
        return tf.tensordot(features, self.linear, 1) + self.context_logits(candidates.context)

    def catalogue_scores(self, past: Past, context: Tensor, catalogue: Catalogue) -> Tensor:
        """The objective on every item [B, V]: the weighted sum of the targets' probabilities."""
        contract = self.contract
        weights = tf.constant([contract.objective[name] for name in contract.targets], tf.float32)
        sizes, behaviours = contract.category_sizes, len(contract.behaviours)

        def one(inputs: tuple[Tensor, ...]) -> Tensor:
            items, types, valid, offset = inputs
            matches = match_catalogue(items, types, valid, catalogue.categories, sizes, behaviours)
            logits = tf.matmul(tf.concat([matches, catalogue.numbers], axis=-1), self.linear) + offset
            return tf.linalg.matvec(tf.sigmoid(logits[:, : len(contract.targets)]), weights)

        inputs = (*past.events, past.valid, self.context_logits(context))
        return tf.map_fn(one, inputs, fn_output_signature=tf.float32)

    def context_logits(self, context: Tensor) -> Tensor:
        """What bias and context [..., F] add to the logits, [..., targets + values]."""
        parts = (tf.gather(table, context[..., i]) for i, table in enumerate(self.context_tables))
        return tf.add_n([*parts]) + self.bias
