"""Feature interactions: explicit products beside a deep part, for decisions in which the context says much."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import keras
import tensorflow as tf

from models.dropout import Dropout

Tensor = Any


class Interactions(keras.layers.Layer):  # type: ignore[misc]
    """Products of low rank and a deep network side by side, down to a few logits.

    The features enter once, through one matrix: into ``products + 1`` factors of ``rank`` numbers, into the deep part,
    and straight into the logits. Factors multiplied one after the other are polynomials of the features of degree 2, 3,
    .. (a CP decomposition of their coefficients: Blondel et al. 2016; Chrysos et al. 2020). They reach what the cross
    layers of DCN-V2 (Wang et al. 2021) reach with matrices of that rank, and cost one pass over the features in the
    place of two a layer (docs/decisions/0015).

    Args:
        outputs: number of logits.
        rank: numbers in a factor; ``products`` multiplications reach products of ``products + 1`` features.
        hidden: sizes of the deep part's layers, at least one.
        dropout: after every hidden layer; ``input_dropout``: of the features themselves.
    """

    def __init__(
        self,
        outputs: int,
        *,
        rank: int,
        products: int,
        hidden: tuple[int, ...],
        dropout: float,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.widths = [*[rank] * (products + 1 if products else 0), hidden[0], outputs]
        self.entry = keras.layers.Dense(sum(self.widths), kernel_initializer=self._begin)
        self.deep = [keras.layers.Dense(size, activation="gelu") for size in hidden[1:]]
        self.drop, self.drop_inputs = Dropout(dropout), Dropout(input_dropout)
        self.head = keras.layers.Dense(outputs, use_bias=False)

    def _begin(self, shape: tuple[int, int], dtype: Any = None) -> Tensor:
        """Products begin as nothing: those of unscaled features are long-tailed, and would upset the first steps."""
        factors = len(self.widths) - 2
        blocks = [
            tf.zeros((shape[0], width), dtype)
            if 0 < place < factors
            else keras.initializers.GlorotUniform()((shape[0], width), dtype)
            for place, width in enumerate(self.widths)
        ]
        return tf.concat(blocks, axis=1)

    def call(self, own: Sequence[Tensor], shared: Sequence[Tensor], training: bool = False) -> Tensor:
        """Features that each candidate has for itself, [B, D, w] each, and those of its moment, [B, D or 1, w] each, to
        logits [B, D, outputs]. What all candidates share is multiplied once."""
        if not self.entry.built:
            self.entry.build((None, sum(part.shape[-1] for part in (*own, *shared))))
        kernel, place, products = tf.convert_to_tensor(self.entry.kernel), 0, []
        # One product for those that have as many rows: what a moment has once is multiplied once.
        for group in (own, *(list(parts) for _, parts in groupby(shared, lambda part: part.shape[1] == 1))):
            features = self.drop_inputs(tf.concat(group, axis=-1), training=training)
            products.append(tf.matmul(features, kernel[place : place + features.shape[-1]]))
            place += features.shape[-1]
        moment = sum(products[1:], tf.convert_to_tensor(self.entry.bias))
        *factors, deep, logits = tf.split(products[0] + moment, self.widths, axis=-1)
        met, product = [], None
        for factor in factors:
            product = factor if product is None else product * factor
            met.append(product)
        deep = self.drop(keras.activations.gelu(deep), training=training)
        for layer in self.deep:
            deep = self.drop(layer(deep), training=training)
        return logits + self.head(tf.concat([*met[1:], deep], axis=-1))
