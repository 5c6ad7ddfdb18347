"""Random numbers in a training step, the same by the same seed whether XLA compiles the step or not."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

Tensor = Any


def words(seeds: keras.random.SeedGenerator, count: Tensor) -> Tensor:
    """The next ``count`` random words of 32 bits, int32 [count].

    One Philox stream for each call, its seed counted on from call to call. Under XLA, tf.random takes another seed in
    every process, and the floats of stateless draws are others than those of a plain step; whole words are the same.
    """
    return tf.random.stateless_uniform([count], seeds.next(), minval=None, maxval=None, dtype=tf.int32, alg="philox")


def below(limit: int, drawn: Tensor) -> Tensor:
    """Words as numbers from 0 to ``limit`` - 1, each as likely as the others but for limit / 2**32."""
    return tf.math.floormod(drawn, limit)


def unit(drawn: Tensor) -> Tensor:
    """Words as float32 from 0 up to, not including, 1, in steps of 2**-24."""
    return tf.cast(tf.bitwise.right_shift(tf.bitcast(drawn, tf.uint32), tf.constant(8, tf.uint32)), tf.float32) * 2**-24
