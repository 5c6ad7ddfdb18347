"""How a candidate relates to a history, counted exactly: the same item, the same categories, how long ago.

Learned vectors of rare items say little about identity; these features need no learning. Every network may use them,
and the linear baselines live on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from models.contract import FIRST, ITEM_BASE, STATE_TAIL

Tensor = Any


def pack_tail(items: Tensor, types: Tensor) -> Tensor:
    """The last STATE_TAIL columns of a state, float32 [B, L, 3]: type, item id high and low digit."""
    return tf.cast(tf.stack([types, items // ITEM_BASE, items % ITEM_BASE], axis=-1), tf.float32)


def unpack_tail(state: Tensor) -> tuple[Tensor, Tensor]:
    """Item ids and type ids, int32 [B, L], from a state [B, L, width]."""
    tail = tf.cast(state[..., -STATE_TAIL:], tf.int32)
    return tail[..., 1] * ITEM_BASE + tail[..., 2], tail[..., 0]


def match_width(behaviours: int, levels: int) -> int:
    """The number of match features: for item and each category level, a count a behaviour and a recency; totals."""
    return (behaviours + 1) * (1 + levels) + behaviours


def match_catalogue(
    items: Tensor, types: Tensor, valid: Tensor, categories: Tensor, sizes: Sequence[int], behaviours: int
) -> Tensor:
    """:func:`match_features` of every item of the catalogue for one whole history, float32 [V, match_width].

    Adds up the history by item and by category first, so the work is L + V and not L * V.

    Args:
        items, types: one history, int32 [L]; ``valid`` bool [L] marks its events.
        categories: category ids of every item, int32 [V, levels]; ``sizes`` of their vocabularies.
        behaviours: number of event types T.
    """
    length, known = tf.shape(items)[0], tf.shape(categories)[0]
    seen = tf.cast(valid, tf.float32)
    onehot = tf.one_hot(types - FIRST, behaviours) * seen[:, None]  # [L, T]
    nearness = seen / tf.cast(length - tf.range(length), tf.float32)  # [L]
    keys = [(items, tf.range(known), known)]
    past = tf.gather(categories, items)  # [L, levels]
    keys += [(past[:, level], categories[:, level], size) for level, size in enumerate(sizes)]
    parts = []
    for level, (key, own, size) in enumerate(keys):
        counts = tf.math.unsorted_segment_sum(onehot, key, size)  # [size, T]
        recent = tf.maximum(tf.math.unsorted_segment_max(nearness, key, size), 0.0)  # [size]
        real = tf.cast((own >= FIRST) | (level == 0), tf.float32)[:, None]
        parts += [tf.math.log1p(tf.gather(counts, own)) * real, tf.gather(recent, own)[:, None] * real]
    total = tf.math.log1p(tf.reduce_sum(onehot, axis=0))  # [T]
    return tf.concat([*parts, tf.tile(total[None], [known, 1])], axis=-1)


def match_features(
    items: Tensor, types: Tensor, visible: Tensor, candidates: Tensor, categories: Tensor, behaviours: int
) -> Tensor:
    """Match features, float32 [B, D, match_width].

    Args:
        items, types: the history, int32 [B, L].
        visible: which events each candidate may see, bool [B, D, L] (or [B, 1, L]).
        candidates: item ids, int32 [B, D].
        categories: category ids of every item, int32 [V, levels].
        behaviours: number of event types T.

    For the item itself and for each category level: log1p of the number of visible events on it, by type, and
    1 / (1 + events since the last one), 0 if none. Then log1p of the number of visible events by type.
    """
    onehot = tf.one_hot(types - FIRST, behaviours)  # [B, L, T]
    length = tf.shape(items)[1]
    slots = tf.range(length)
    newest = tf.reduce_max(tf.where(visible, slots, -1), axis=-1, keepdims=True)  # [B, D, 1]
    nearness = 1.0 / (1.0 + tf.cast(tf.maximum(newest - slots, 0), tf.float32))  # [B, D, L]
    past = tf.gather(categories, items)  # [B, L, levels]
    own = tf.gather(categories, candidates)  # [B, D, levels]
    same = [items[:, None, :] == candidates[:, :, None]]
    for level in range(categories.shape[1]):
        known = own[:, :, None, level] >= FIRST
        same.append((past[:, None, :, level] == own[:, :, None, level]) & known)
    parts = []
    for match in same:
        seen = tf.cast(match & visible, tf.float32)  # [B, D, L]
        parts.append(tf.math.log1p(tf.matmul(seen, onehot)))
        parts.append(tf.reduce_max(seen * nearness, axis=-1, keepdims=True))
    total = tf.math.log1p(tf.matmul(tf.cast(visible, tf.float32), onehot))  # [B, D or 1, T]
    shape = tf.concat([tf.shape(candidates), [behaviours]], axis=0)
    return tf.concat([*parts, tf.broadcast_to(total, shape)], axis=-1)
