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
        inputs: number of input features.
        outputs: number of logits.
        rank: of the cross layers' matrices; ``layers`` crosses reach products of ``layers + 1`` features.
        hidden: sizes of the deep part's layers.
        dropout: after every hidden layer; ``input_dropout``: of the features themselves.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        rank: int,
        layers: int,
        hidden: tuple[int, ...],
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.down = [keras.layers.Dense(rank, use_bias=False) for _ in range(layers)]
        # Crosses begin as nothing: products of unscaled features are long-tailed, and would upset the first steps.
        self.up = [keras.layers.Dense(inputs, kernel_initializer="zeros") for _ in range(layers)]
        self.deep = [keras.layers.Dense(size, activation="gelu") for size in hidden]
        self.drop, self.drop_inputs = Dropout(dropout), Dropout(input_dropout)
        self.head = keras.layers.Dense(outputs)

    def call(self, features: Tensor, training: bool = False) -> Tensor:
        """Features [..., inputs] -> logits [..., outputs]."""
        features = self.drop_inputs(features, training=training)
        crossed = features
        for down, up in zip(self.down, self.up, strict=True):
            crossed = features * up(down(crossed)) + crossed
        deep = features
        for layer in self.deep:
            deep = self.drop(layer(deep), training=training)
        return self.head(tf.concat([crossed, deep], axis=-1))
