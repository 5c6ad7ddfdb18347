"""The behaviour Transformer, whole on one page.

A history is a causal Transformer over events; every event is its item's vector plus type, time gap and value. Distance
enters attention as a learned bias, never as an absolute slot, so that what a window teaches about its k-th event holds
for the k-th event from the end of any history. A candidate attends to the encoded history (with an empty slot to look
at when nothing fits), meets it in products and exact match features, and leaves as one logit a target and one log mean
a value. The same state, through ``query``, retrieves from the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from models.contract import FIRST, GAP_BUCKETS, PAD, POPULARITY, STATE_TAIL, Contract
from models.encode import Arrays
from models.matches import match_features, pack_tail
from models.network import Network
from models.past import Candidates, Past

Tensor = Any


@dataclass(frozen=True, slots=True)
class BehaviourConfig:
    """Size and regularisation of the Transformer."""

    width: int = 32
    layers: int = 1
    heads: int = 2
    dropout: float = 0.1
    negatives: int = 512
    retrieval_weight: float = 0.1


SIZES = {
    "tiny": BehaviourConfig(),
    "small": BehaviourConfig(width=64, layers=2, negatives=1024),
}


class Attention(keras.layers.Layer):  # type: ignore[misc]
    """Multi-head attention with a learned bias for each head and distance, and one empty slot to fall back on."""

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.q, self.kv, self.out = (keras.layers.Dense(n) for n in (width, 2 * width, width))
        self.distance = self.add_weight(name="distance", shape=(length + 1, heads), initializer="zeros")
        self.empty = self.add_weight(
            name="empty", shape=(2, 1, 1, width), initializer=keras.initializers.RandomNormal(stddev=0.02)
        )

    def call(self, queries: Tensor, keys: Tensor, distance: Tensor, visible: Tensor) -> Tensor:
        """queries [B, D, W], keys [B, L, W], distance int32 and visible bool [B or 1, D, L] -> [B, D, W]."""
        batch = tf.shape(keys)[0]
        k, v = tf.split(self.kv(keys), 2, axis=-1)
        k, v = (tf.concat([tf.tile(self.empty[i], [batch, 1, 1]), x], axis=1) for i, x in enumerate((k, v)))
        q, k, v = (self._split(x) for x in (self.q(queries), k, v))  # [B, H, D | L + 1, size]
        logits = tf.matmul(q, k, transpose_b=True) * self.size**-0.5  # [B, H, D, L + 1]
        bias = tf.transpose(tf.gather(self.distance, tf.maximum(distance, 0)), [0, 3, 1, 2])  # [B | 1, H, D, L]
        bias = tf.where(visible[:, None], bias, -1e9)
        logits += tf.pad(bias, [[0, 0], [0, 0], [0, 0], [1, 0]])
        mixed = tf.transpose(tf.matmul(tf.nn.softmax(logits), v), [0, 2, 1, 3])  # [B, D, H, size]
        return self.out(tf.reshape(mixed, [batch, -1, self.heads * self.size]))

    def _split(self, x: Tensor) -> Tensor:
        return tf.transpose(tf.reshape(x, [tf.shape(x)[0], -1, self.heads, self.size]), [0, 2, 1, 3])


class Block(keras.layers.Layer):  # type: ignore[misc]
    """One pre-norm Transformer layer (Xiong et al. 2020)."""

    def __init__(self, config: BehaviourConfig, length: int) -> None:
        super().__init__()
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.attend = Attention(config.width, config.heads, length)
        self.feed = keras.Sequential(
            [keras.layers.Dense(2 * config.width, activation="gelu"), keras.layers.Dense(config.width)]
        )
        self.drop = keras.layers.Dropout(config.dropout)

    def call(self, x: Tensor, distance: Tensor, visible: Tensor, training: bool = False) -> Tensor:
        """x [B, L, W] -> [B, L, W]; ``visible`` [B, L, L] is causal."""
        y = self.norms[0](x)
        x += self.drop(self.attend(y, y, distance, visible), training=training)
        return x + self.drop(self.feed(self.norms[1](x)), training=training)


class Behaviour(Network):
    """The behaviour Transformer over one contract; see the module docstring."""

    def __init__(self, contract: Contract, content: Arrays, config: BehaviourConfig) -> None:
        super().__init__(contract, content, negatives=config.negatives, retrieval_weight=config.retrieval_weight)
        self.config, width, length = config, config.width, contract.history_length
        self.state_width = width + STATE_TAIL
        self.id_table = embedding(contract.items, width, 0.01)
        self.category_tables = [embedding(size, width) for size in contract.category_sizes]
        self.number_layer = keras.layers.Dense(width, use_bias=False)
        self.type_table = embedding(FIRST + len(contract.behaviours), width)
        self.gap_table = embedding(GAP_BUCKETS, width)
        self.value_layer = keras.layers.Dense(width, use_bias=False)
        self.context_tables = [embedding(field.size, width) for field in contract.fields]
        self.blocks = [Block(config, length) for _ in range(config.layers)]
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6)
        self.candidate_attention = Attention(width, config.heads, length)
        self.query_layer = keras.Sequential(
            [keras.layers.Dense(2 * width, activation="gelu"), keras.layers.Dense(width)]
        )
        self.copy_layer = keras.layers.Dense(1)
        self.copy_distance = self.add_weight(name="copy_distance", shape=(length + 1,), initializer="zeros")
        self.hidden = [
            keras.layers.Dense(2 * width, activation="gelu"),
            keras.layers.Dense(width, activation="gelu"),
        ]
        self.drop = keras.layers.Dropout(config.dropout)
        self.head = keras.layers.Dense(len(contract.targets) + len(contract.values))
        self.build_position_bias()

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """id embedding + category embeddings + price, [..., W]; rare items share the id embedding of UNKNOWN.

        Popularity stays out: its final count would tell training which items are acted on later.
        """
        rows = tf.gather(self.id_rows, tf.minimum(items, self.contract.items - 1))
        vectors = self.id_table(rows) + self.number_layer(numbers[..., :POPULARITY])
        return tf.add_n([vectors, *(table(categories[..., i]) for i, table in enumerate(self.category_tables))])

    def encode(
        self,
        items: Tensor,
        types: Tensor,
        gaps: Tensor,
        values: Tensor,
        vectors: Tensor,
        training: bool = False,
    ) -> Tensor:
        """Causal Transformer over the events [B, L] -> state [B, L, W + STATE_TAIL]."""
        x = (
            vectors * self.config.width**0.5
            + self.type_table(types)
            + self.gap_table(gaps)
            + self.value_layer(values[..., None])
        )
        x = self.drop(x, training=training)
        slots = tf.range(tf.shape(items)[1])
        distance = (slots[:, None] - slots)[None]  # [1, L, L]
        visible = (distance >= 0) & (items != PAD)[:, None, :]  # [B, L, L]
        for block in self.blocks:
            x = block(x, distance, visible, training=training)
        return tf.concat([self.norm(x), pack_tail(items, types)], axis=-1)

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """Logits [B, D, targets + values]: attention pooling, products, match features, then a small MLP."""
        items, vectors, numbers, context = candidates
        scene = self.scene(context)  # [B, D, W]
        wanted = self.candidate_attention(vectors + scene, past.rows, past.distance, past.visible)  # [B, D, W]
        user = past.newest
        matches = match_features(*past.events, past.visible, items, categories, len(self.contract.behaviours))
        x = tf.concat([vectors, wanted, user, scene, vectors * wanted, vectors * user, matches, numbers], axis=-1)
        for layer in self.hidden:
            x = self.drop(layer(x), training=training)
        return self.head(x)

    def query(self, past: Past, context: Tensor) -> Tensor:
        """The user at each prefix, in the scene of the moment, as a retrieval query [B, M, W]."""
        return self.query_layer(tf.concat([past.newest, self.scene(context)], axis=-1))

    def copy_weights(self, past: Past) -> Tensor:
        """exp of a linear function of each event's state plus a bias for its distance, [B, M, L]."""
        bias = tf.gather(self.copy_distance, tf.maximum(past.distance, 0))
        logits = self.copy_layer(past.rows)[:, None, :, 0] + bias
        return tf.exp(tf.minimum(logits, 20.0)) * tf.cast(past.visible, tf.float32)

    def scene(self, context: Tensor) -> Tensor:
        """The sum of the context fields' embeddings [B, D, W] of context ids [B, D, F]."""
        return tf.add_n([table(context[..., i]) for i, table in enumerate(self.context_tables)])


def embedding(rows: int, width: int, stddev: float = 0.05) -> keras.layers.Embedding:
    """A table of small random vectors."""
    return keras.layers.Embedding(rows, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=stddev))
