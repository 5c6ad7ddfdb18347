"""The best of very many, exactly."""

from __future__ import annotations

from math import inf
from typing import Any

import tensorflow as tf

Tensor = Any

#: Places in a block from which on blocks are worth their while.
FEWEST = 4


def by_vector(query: Tensor, vectors: Tensor, items: Tensor, bonus: Tensor) -> Tensor:
    """Scores [B, V]: each query [B, W] times each vector [V, W], plus ``bonus`` [B, L] for the items [B, L], which may
    repeat; ids beyond the vectors are no item.

    Computed with the vectors as rows: half the time of the other way round, and :func:`top_k` wants it like that too.
    """
    scores = tf.matmul(vectors, query, transpose_b=True)  # [V, B]
    inside = items < tf.shape(vectors)[0]
    rows = tf.broadcast_to(tf.range(tf.shape(items)[0])[:, None], tf.shape(items))
    places = tf.stack([tf.where(inside, items, 0), rows], axis=-1)
    return tf.transpose(tf.tensor_scatter_nd_add(scores, places, tf.where(inside, bonus, 0.0)))


def top_k(scores: Tensor, k: int, expected: int) -> tuple[Tensor, Tensor]:
    """What ``tf.math.top_k`` gives, to the last tie: the k best of scores [B, V], best first, and their places, [B, k].

    The k best lie in the k blocks whose best are best. A maximum over each block costs a tenth of a selection, which is
    left with k blocks: from some ten times k places on that is faster, later several times.

    Args:
        expected: V as far as it is known when the graph is made; another V costs time, nothing else.
    """
    size = round((expected / k) ** 0.5)  # so that there are as many blocks as places in k of them
    if size < FEWEST:
        best = tf.math.top_k(scores, k)
        return best.values, best.indices
    return best_in_blocks(tf.transpose(scores), k, size)


def best_in_blocks(scores: Tensor, k: int, size: int) -> tuple[Tensor, Tensor]:
    """:func:`top_k` of the columns of scores [V, B] by way of blocks of ``size`` places.

    By columns, for then one instruction takes a place of many rows.
    """
    places, rows = tf.shape(scores)[0], tf.shape(scores)[1]
    count = tf.maximum(-(-places // size), k)
    padded = tf.pad(scores, [[0, count * size - places], [0, 0]], constant_values=-inf)
    blocks = tf.reduce_max(tf.reshape(padded, [count, size, rows]), axis=1)
    chosen = tf.math.top_k(tf.transpose(blocks), k)
    first = rising(chosen.indices, k)  # in their order, so that of equal scores the first still comes first
    inside = tf.reshape(first[:, :, None] * size + tf.range(size), [rows, k * size])
    found = tf.gather(tf.reshape(padded, [-1]), inside * rows + tf.range(rows)[:, None])
    # k blocks have a place that is no worse than the worst of these: the selection is faster with what is worse away.
    worst = tf.reduce_min(chosen.values, axis=-1, keepdims=True)
    best = tf.math.top_k(tf.where(found >= worst, found, -inf), k)
    return best.values, tf.gather(inside, best.indices, batch_dims=1)


def rising(numbers: Tensor, k: int) -> Tensor:
    """Rows of k different whole numbers [B, k] from small to large. By counting, which takes one instruction for many
    where a sort takes them one after the other."""
    rank = tf.reduce_sum(tf.cast(numbers[:, :, None] < numbers[:, None, :], tf.int32), axis=1)  # [B, k]
    return tf.reduce_sum(tf.where(rank[:, :, None] == tf.range(k), numbers[:, :, None], 0), axis=1)
