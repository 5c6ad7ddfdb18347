"""Dropout whose random bits are cheap under XLA on CPUs."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.draws import words

Tensor = Any

#: Draws are 16 bits wide.
DRAWS = 1 << 16


class Dropout(keras.layers.Layer):  # type: ignore[misc]
    """Sets a share ``rate`` of its input to zero while training and scales the rest up (Srivastava et al. 2014).

    Keras draws a float for each element by an algorithm that XLA compiles poorly for CPUs: a step of the cross layers
    spent 90 % of its time there. Here each element takes 16 bits of one Philox stream.
    """

    def __init__(self, rate: float, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator()

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Any shape in, the same shape out."""
        if not training or self.rate <= 0:
            return inputs
        count = tf.size(inputs)
        draws = tf.reshape(tf.bitcast(words(self.seeds, (count + 1) // 2), tf.uint16), [-1])[:count]
        kept = tf.reshape(tf.cast(draws, tf.int32) >= round(self.rate * DRAWS), tf.shape(inputs))
        return tf.where(kept, inputs / (1.0 - self.rate), tf.zeros_like(inputs))
