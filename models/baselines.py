"""Yardsticks behind the same interface as the Transformer, served by the same commands.

All see the same hand-made features (:mod:`models.features`) and the context; amounts are a median regression of
their logarithm. Their state is the history itself; their item vectors are the item's numbers, since they find items by
scoring the catalogue.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.contract import PAD, POPULARITY, STATE_TAIL, Contract
from models.dropout import Dropout
from models.encode import Arrays
from models.features import Standardise, catalogue_features, decision_features, feature_names
from models.losses import examined_cross_entropy, weighted_mean
from models.matches import pack_tail
from models.network import Network
from models.past import Candidates, Catalogue, Events, Past

Tensor = Any

#: Linear weights are stored at a tenth, so that a step of Adam, which knows no scale, moves them ten times as far: a
#: convex problem bears it, and the bias of a rare answer is a long way from 0.
GAIN = 10.0


class Yardstick(Network):
    """What the yardsticks share; each one defines :meth:`judge`."""

    def __init__(self, contract: Contract, content: Arrays) -> None:
        super().__init__(contract, content, negatives=0, retrieval_weight=0.0)
        self.state_width = STATE_TAIL
        self.heads = len(contract.targets) + len(contract.values)
        self.features = len(feature_names(contract))
        self.build_examination()

    def judge(self, features: Tensor, context: Tensor, training: bool = False) -> Tensor:
        """Logits [..., targets + values] of features [..., K] and context ids [..., F]; leading sizes may be 1."""
        raise NotImplementedError

    def observe(self, features: Tensor, real: Tensor) -> None:
        """Called in training with the features [B, D, K] before they are judged; ``real`` [B, D] are no padding."""

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """The numbers alone [..., 3]: nothing is learned about single items."""
        return numbers

    def encode(self, events: Events, vectors: Tensor, shown: Tensor, training: bool = False) -> Tensor:
        """The events themselves [B, L, STATE_TAIL]."""
        return pack_tail(events.items, events.types, events.ages, events.exposures)

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """One function of the features, [B, D, targets + values]."""
        features = decision_features(self.contract, past, candidates, categories)
        if training:
            self.observe(features, candidates.items != PAD)
        return self.judge(features, candidates.context, training)

    def catalogue_scores(self, past: Past, context: Tensor, catalogue: Catalogue) -> Tensor:
        """The objective on every item [B, V]: the weighted sum of the targets' probabilities.

        One history at a time, so that a large catalogue times a batch need not fit into memory.
        """
        contract = self.contract
        weights = tf.constant([contract.objective[name] for name in contract.targets], tf.float32)

        def one(inputs: tuple[Tensor, ...]) -> Tensor:
            items, types, ages, valid, exposures, scene = inputs
            features = catalogue_features(contract, items, types, ages, valid, exposures, catalogue)  # [V, K]
            logits = self.judge(features, scene[None])
            return tf.linalg.matvec(tf.sigmoid(logits[:, : len(contract.targets)]), weights)

        inputs = (*past.events, past.ages[:, 0], past.valid, past.exposures, context)
        return tf.map_fn(one, inputs, fn_output_signature=tf.float32, parallel_iterations=1)


class Popularity(Yardstick):
    """How often an item was acted on, and nothing else: a logistic regression on its log, whose slope is not negative.

    Its order of the catalogue is popularity, the same for everybody. Where counts grow over the training time and
    habits do not, a free slope would learn that instead, and turn the order round.
    """

    def __init__(self, contract: Contract, content: Arrays) -> None:
        super().__init__(contract, content)
        self.kernel = self.add_weight(name="kernel", shape=(1, self.heads), initializer="zeros")
        self.bias = self.add_weight(name="bias", shape=(self.heads,), initializer="zeros")

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """One line a head, [B, D, targets + values]."""
        slope = tf.nn.softplus(GAIN * self.kernel[0])
        return candidates.numbers[..., POPULARITY:] * slope + GAIN * self.bias

    def catalogue_scores(self, past: Past, context: Tensor, catalogue: Catalogue) -> Tensor:
        """The scaled log popularity of every item [B, V]."""
        rows, popularity = tf.shape(context)[0], catalogue.numbers[:, POPULARITY]
        return tf.repeat(popularity[None], rows, axis=0)


class Logistic(Yardstick):
    """Logistic regression: a weight for every feature and for every value of the context.

    Args:
        l2: strength of the penalty on the squared weights.
    """

    def __init__(self, contract: Contract, content: Arrays, l2: float = 1e-5) -> None:
        super().__init__(contract, content)
        decay = keras.regularizers.L2(l2 * GAIN**2)
        shape = (self.features, self.heads)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer="zeros", regularizer=decay)
        self.bias = self.add_weight(name="bias", shape=(self.heads,), initializer="zeros")
        self.context_tables = [
            self.add_weight(
                name=f"context_{f.name}", shape=(f.size, self.heads), initializer="zeros", regularizer=decay
            )
            for f in contract.fields
        ]

    def judge(self, features: Tensor, context: Tensor, training: bool = False) -> Tensor:
        """One linear function a target or value."""
        parts = (tf.gather(table, context[..., i]) for i, table in enumerate(self.context_tables))
        return GAIN * (tf.tensordot(features, self.kernel, 1) + tf.add_n([*parts]) + self.bias)


class SVM(Logistic):
    """Linear support vector machines, one a target: hinge loss and L2. Margins rank; calibration makes them chances.

    A click that did not come may not have been looked at. The hinge has no likelihood in which to say so, so a yes at
    a place that is looked at half of the time weighs twice (inverse propensity, Joachims et al. 2017), while how often
    a place is looked at is learned beside it, from the cross-entropy of the margins as they stand (Platt 1999): they
    are scaled by one slope and moved by each target's base rate, and take no gradient from it.
    """

    def __init__(self, contract: Contract, content: Arrays, l2: float = 1e-5) -> None:
        super().__init__(contract, content, l2)
        self.slope = self.add_weight(name="slope", shape=(), initializer="ones")

    def target_loss(self, logits: Tensor, labels: Tensor, weights: Tensor, look: Tensor) -> Tensor:
        """Hinge of the margins, plus the cross-entropy that teaches the examination; a scalar."""
        seen = tf.stop_gradient(tf.maximum(look, 0.05))  # no yes weighs more than twenty
        hinge = balanced_hinge(logits, labels, weights * tf.where(labels > 0, 1 / seen, 1.0))
        rate = weighted_mean(labels, weights) / tf.maximum(weighted_mean(seen, weights), 0.05)
        rate = tf.clip_by_value(rate, 1e-6, 1 - 1e-6)
        chance = self.slope * tf.stop_gradient(logits) + tf.math.log(rate / (1 - rate))
        return hinge + examined_cross_entropy(chance, labels, weights, look)


class DNN(Yardstick):
    """A multilayer perceptron on standardised features and small embeddings of the context, ReLU and dropout."""

    def __init__(
        self,
        contract: Contract,
        content: Arrays,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.2,
        embedding: int = 8,
    ) -> None:
        super().__init__(contract, content)
        self.standardise = Standardise(self.features)
        self.context_tables = [keras.layers.Embedding(f.size, embedding) for f in contract.fields]
        # The first layer in two parts, so that the context is multiplied once for a whole catalogue.
        self.entry = keras.layers.Dense(hidden[0], use_bias=False)
        self.scene = keras.layers.Dense(hidden[0])
        self.deeper = [keras.layers.Dense(size) for size in hidden[1:]]
        self.drop = Dropout(dropout)
        self.head = keras.layers.Dense(self.heads)

    def observe(self, features: Tensor, real: Tensor) -> None:
        """Learn the features' means and variances."""
        self.standardise.observe(features, real)

    def judge(self, features: Tensor, context: Tensor, training: bool = False) -> Tensor:
        """Layer after layer, [..., targets + values]."""
        fields = [table(context[..., i]) for i, table in enumerate(self.context_tables)]
        x = self.entry(self.standardise(features)) + self.scene(tf.concat(fields, axis=-1))
        x = self.drop(tf.nn.relu(x), training=training)
        for layer in self.deeper:
            x = self.drop(tf.nn.relu(layer(x)), training=training)
        return self.head(x)


def balanced_hinge(margins: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Mean hinge max(0, 1 - y z), y = 1 for yes and -1 for no, in which all yes weigh as much as all no; a scalar.

    Unbalanced, the best margin wherever yes is less likely than no is -1, for every candidate alike.
    """
    yes = weighted_mean(tf.nn.relu(1.0 - margins), weights * labels)
    no = weighted_mean(tf.nn.relu(1.0 + margins), weights * (1.0 - labels))
    return 0.5 * (yes + no)
