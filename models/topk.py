"""The best of very many, exactly."""

from __future__ import annotations

from math import inf
from typing import Any

import tensorflow as tf

Tensor = Any

#: Places in a block from which on blocks are worth their while.
FEWEST = 16


def top_k(scores: Tensor, k: int, expected: int) -> tuple[Tensor, Tensor]:
    """What ``tf.math.top_k`` gives, to the last tie: the k best of scores [B, V], best first, and their places, [B, k].

    The k best lie in the k blocks whose best are best. A maximum over each block costs a tenth of a selection, which is
    left with k blocks; from a few hundred times k places on that is several times faster.

    Args:
        expected: V as far as it is known when the graph is made; another V costs time, nothing else.
    """
    size = round((expected / k) ** 0.5)  # so that there are as many blocks as places in k of them
    if size < FEWEST:
        best = tf.math.top_k(scores, k)
        return best.values, best.indices
    return best_in_blocks(scores, k, size)


def best_in_blocks(scores: Tensor, k: int | Tensor, size: int) -> tuple[Tensor, Tensor]:
    """:func:`top_k` by way of blocks of ``size`` places."""
    rows, places = tf.shape(scores)[0], tf.shape(scores)[1]
    count = tf.maximum(-(-places // size), k)
    padded = tf.pad(scores, [[0, 0], [0, count * size - places]], constant_values=-inf)
    blocks = tf.reshape(padded, [rows, count, size])
    chosen = tf.math.top_k(tf.reduce_max(blocks, axis=-1), k).indices
    chosen = tf.sort(chosen, axis=-1)  # in their order, so that of equal scores the first still comes first
    best = tf.math.top_k(tf.reshape(tf.gather(blocks, chosen, batch_dims=1), [rows, k * size]), k)
    block = tf.gather(chosen, best.indices // size, batch_dims=1)
    return best.values, block * size + best.indices % size
