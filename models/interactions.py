"""Feature interactions: explicit crosses beside a deep part, for decisions in which the context says much."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.dropout import Dropout

Tensor = Any


class Interactions(keras.layers.Layer):  # type: ignore[misc]
    """Low-rank cross layers and a deep network side by side (DCN-V2, Wang et al. 2021), down to a few logits.

    Args:
        own: number of features that each candidate has for itself.
        shared: number of features that all candidates of one moment have in common.
        outputs: number of logits.
        rank: of the cross layers' matrices; ``layers`` crosses reach products of ``layers + 1`` features.
        hidden: sizes of the deep part's layers.
        dropout: after every hidden layer; ``input_dropout``: of the features themselves.
    """

    def __init__(
        self,
        own: int,
        shared: int,
        outputs: int,
        *,
        rank: int,
        layers: int,
        hidden: tuple[int, ...],
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.own = own
        self.down = [keras.layers.Dense(rank, use_bias=False) for _ in range(layers)]
        # Crosses begin as nothing: products of unscaled features are long-tailed, and would upset the first steps.
        self.up = [keras.layers.Dense(own + shared, kernel_initializer="zeros") for _ in range(layers)]
        self.deep = [keras.layers.Dense(size, activation="gelu") for size in hidden]
        self.drop, self.drop_inputs = Dropout(dropout), Dropout(input_dropout)
        self.head = keras.layers.Dense(outputs)

    def call(self, own: Tensor, shared: Tensor, training: bool = False) -> Tensor:
        """Features [B, D, own] and [B, D or 1, shared] -> logits [B, D, outputs]."""
        if shared.shape[1] == 1 and own.shape[1] != 1:
            return self._one_moment(own, shared)
        features = self.drop_inputs(tf.concat([own, shared], axis=-1), training=training)
        crossed = features
        for down, up in zip(self.down, self.up, strict=True):
            crossed = features * up(down(crossed)) + crossed
        deep = features
        for layer in self.deep:
            deep = self.drop(layer(deep), training=training)
        return self.head(tf.concat([crossed, deep], axis=-1))

    def _one_moment(self, own: Tensor, shared: Tensor) -> Tensor:
        """The same function where the candidates share a moment, shared [B, 1, m], as in serving; without dropout.

        A cross layer adds ``features * (U z + b)``. Of the shared features a candidate's crosses are thus
        ``shared * (1 + sum b)`` plus ``shared * U z`` for each layer's z [B, D, rank], and a matrix K that follows
        meets the latter as ``z (U diag(shared) K)``, with one small matrix a moment in place of long rows a candidate.
        """
        crossed, common = own, shared
        before: list[tuple[Tensor, Tensor]] = []  # z [B, D, rank] and U * shared [B, rank, m] of the crosses so far

        def times(kernel: Tensor) -> Tensor:
            """The crossed features [B, D, own + m], times a kernel [own + m, q]."""
            product = tf.matmul(crossed, kernel[: self.own]) + tf.matmul(common, kernel[self.own :])
            return product + sum(tf.matmul(z, tf.matmul(up, kernel[self.own :])) for z, up in before)

        for down, up in zip(self.down, self.up, strict=True):
            z = times(down.kernel)
            kernel, bias = tf.convert_to_tensor(up.kernel), tf.convert_to_tensor(up.bias)
            crossed = own * (tf.matmul(z, kernel[:, : self.own]) + bias[: self.own]) + crossed
            common = shared * bias[self.own :] + common
            before.append((z, kernel[:, self.own :] * shared))
        entry = tf.convert_to_tensor(self.deep[0].kernel)
        deep = tf.matmul(own, entry[: self.own]) + tf.matmul(shared, entry[self.own :]) + self.deep[0].bias
        deep = self.deep[0].activation(deep)
        for layer in self.deep[1:]:
            deep = layer(deep)
        head = tf.convert_to_tensor(self.head.kernel)
        width = self.own + shared.shape[-1]
        return times(head[:width]) + tf.matmul(deep, head[width:]) + self.head.bias
