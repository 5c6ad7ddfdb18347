"""How a candidate relates to a history, counted exactly: the same item, the same categories, how long ago.

Learned vectors of rare items say little about identity; these features need no learning. Every network may use them,
and the linear baselines live on them. Counts are taken over the whole history and fading: with a half-life of an hour
(this session), a day, a week and four weeks, whose differences tell what is due again from what was just bought. What
was shown is counted in all, which tells who clicks readily from who is shown much.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import tensorflow as tf

from models.contract import FIRST, ITEM_BASE, STATE_TAIL, TYPE_BASE

Tensor = Any

#: Half-lives, in hours, of the fading counts.
HALF_LIVES = (1.0, 24.0, 168.0, 672.0)
#: In the place of an unknown category: no event has it.
NOWHERE = -1


def pack_tail(items: Tensor, types: Tensor, ages: Tensor, exposures: Tensor | int = 0) -> Tensor:
    """The last STATE_TAIL columns of a state, float32 [B, L, 4]: age, exposures and type, digits of the item id."""
    numbers = (ages, exposures * TYPE_BASE + types, items // ITEM_BASE, items % ITEM_BASE)
    return tf.stack([tf.cast(number, tf.float32) for number in numbers], axis=-1)


def unpack_tail(state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What :func:`pack_tail` packed, from a state [B, L, width]: items, types, ages (float32) and exposures, [B, L]."""
    tail = state[..., -STATE_TAIL:]
    _, kinds, high, low = tf.unstack(tf.cast(tail, tf.int32), axis=-1)
    return high * ITEM_BASE + low, kinds % TYPE_BASE, tf.cast(tail[..., 0], tf.float32), kinds // TYPE_BASE


def match_width(behaviours: int, levels: int, exposed: bool = False) -> int:
    """The number of match features: for item and each category level, counts by behaviour and a recency; totals."""
    return (total_width(behaviours) + 1) * (1 + levels) + total_width(behaviours, exposed)


def fading(ages: Tensor) -> list[Tensor]:
    """How much events of these ages (hours, any shape) count: all alike, then by each half-life."""
    return [tf.ones_like(ages), *(tf.exp(ages * (-log(2) / half_life)) for half_life in HALF_LIVES)]


def log_counts(counts: Tensor) -> Tensor:
    """log(1 + counts) to 1e-7, as which counts of each candidate are features. ``log1p`` takes several times as long,
    and is better only for counts of next to nothing."""
    return tf.math.log(1.0 + counts)


def match_catalogue(
    items: Tensor,
    types: Tensor,
    ages: Tensor,
    valid: Tensor,
    categories: Tensor,
    sizes: Sequence[int],
    behaviours: int,
    exposures: Tensor | None = None,
) -> Tensor:
    """:func:`match_features` of every item of the catalogue for one whole history, float32 [V, match_width].

    Adds up the history by item and by category first, so the work is L + V and not L * V.

    Args:
        items, types, ages, exposures: one history, [L]; ``valid`` bool [L] marks its events.
        categories: category ids of every item, int32 [V, levels]; ``sizes`` of their vocabularies.
        behaviours: number of event types T.
    """
    length, known = tf.shape(items)[0], tf.shape(categories)[0]
    seen = tf.cast(valid, tf.float32)
    onehot = tf.one_hot(types - FIRST, behaviours) * seen[:, None]  # [L, T]
    weights = fading(ages)
    onehot = tf.concat([onehot * weight[:, None] for weight in weights], axis=1)  # [L, (1 + H) * T]
    nearness = seen / tf.cast(length - tf.range(length), tf.float32)  # [L]
    keys = [(items, tf.range(known), known)]
    past = tf.gather(categories, items)  # [L, levels]
    keys += [(past[:, level], categories[:, level], size) for level, size in enumerate(sizes)]
    parts = []
    for level, (key, own, size) in enumerate(keys):
        counts = tf.math.unsorted_segment_sum(onehot, key, size)  # [size, (1 + H) * T]
        recent = tf.maximum(tf.math.unsorted_segment_max(nearness, key, size), 0.0)  # [size]
        real = tf.cast((own >= FIRST) | (level == 0), tf.float32)[:, None]
        parts += [log_counts(tf.gather(counts, own)) * real, tf.gather(recent, own)[:, None] * real]
    total = tf.math.log1p(tf.reduce_sum(onehot, axis=0))  # [(1 + H) * T]
    if exposures is not None:
        told = tf.stack(shown_and_told(exposures)) * seen  # [2, L]
        faded = tf.concat([tf.reduce_sum(told * weight, axis=-1) for weight in weights], axis=0)
        total = tf.concat([total, tf.math.log1p(faded)], axis=0)
    return tf.concat([*parts, tf.tile(total[None], [known, 1])], axis=-1)


def match_features(*arguments: Any, **options: Any) -> Tensor:
    """:func:`match_parts` beside each other, float32 [B, D, match_width]."""
    own, total = match_parts(*arguments, **options)
    shape = tf.concat([tf.shape(own)[:2], tf.shape(total)[2:]], axis=0)
    return tf.concat([own, tf.broadcast_to(total, shape)], axis=-1)


def total_width(behaviours: int, exposed: bool = False) -> int:
    """How many of the match features are the same for all candidates."""
    return (behaviours + 2 * exposed) * (1 + len(HALF_LIVES))


def shown_and_told(exposures: Tensor) -> tuple[Tensor, Tensor]:
    """Of the exposures of a history, of any shape, how many items were shown before each event, and whether anybody
    said (float32)."""
    return tf.cast(tf.maximum(exposures - 1, 0), tf.float32), tf.cast(exposures > 0, tf.float32)


def match_parts(
    items: Tensor,
    types: Tensor,
    ages: Tensor,
    visible: Tensor,
    candidates: Tensor,
    categories: Tensor,
    behaviours: int,
    exposures: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """What matches each candidate, float32 [B, D, match_width - total_width], and totals [B, D or 1, total_width].

    Args:
        items, types: the history, int32 [B, L].
        ages: hours from each event to each candidate's moment, float32 [B, D, L] (or [B, 1, L]).
        visible: which events each candidate may see, bool [B, D, L] (or [B, 1, L]).
        candidates: item ids, int32 [B, D].
        categories: category ids of every item, int32 [V, levels].
        behaviours: number of event types T.
        exposures: of each event [B, L] (contract.EXPOSURES); None where the model does not know of such.

    For the item itself and for each category level: log(1 + n) of the n visible events on it, by type, whole and fading
    (H half-lives), and 1 / (1 + events since the last one), 0 if none. Then the same logarithm of all visible events by
    type, of what was shown before them, and of those of which that is known, whole and fading; they are the same for
    all candidates of one moment.
    """
    onehot = tf.one_hot(types - FIRST, behaviours)  # [B, L, T]
    slots = tf.range(tf.shape(items)[1])
    newest = tf.reduce_max(tf.where(visible, slots, -1), axis=-1, keepdims=True)  # [B, D, 1]
    nearness = 1.0 / (1.0 + tf.cast(tf.maximum(newest - slots, 0), tf.float32))  # [B, D, L]
    shown = tf.cast(visible, tf.float32)  # [B, D or 1, L]
    weights = [shown * weight for weight in fading(ages)]  # [B, D or 1, L] each
    keys = [(items, candidates)]
    past, own = (tf.gather(categories, ids) for ids in (items, candidates))  # [B, L or D, levels]
    own = tf.where(own >= FIRST, own, NOWHERE)
    keys += [(past[..., level], own[..., level]) for level in range(categories.shape[1])]
    if ages.shape[1] == 1 and visible.shape[1] == 1:  # as in serving
        weighed = tf.concat([weight[:, 0, :, None] * onehot for weight in weights], axis=-1)  # [B, L, (1 + H) * T]
        parts = [moment_matches(*key, weighed, visible[:, 0], nearness[:, 0]) for key in keys]
        totals = [tf.reduce_sum(weighed, axis=1, keepdims=True)]
    else:
        parts = []
        for of_events, of_candidates in keys:
            seen = tf.cast(of_events[:, None] == of_candidates[..., None], tf.float32)  # [B, D, L]
            last = tf.reduce_max(seen * shown * nearness, axis=-1, keepdims=True)
            parts += [log_counts(counts(seen, weights, onehot)), last]
        totals = [counts(tf.ones_like(shown), weights, onehot)]
    if exposures is not None:
        told = tf.stack(shown_and_told(exposures), axis=-1)  # [B, L, 2]
        totals.append(counts(tf.ones_like(shown), weights, told))
    return tf.concat(parts, axis=-1), tf.math.log1p(tf.concat(totals, axis=-1))


def counts(seen: Tensor, weights: Sequence[Tensor], kinds: Tensor) -> Tensor:
    """How many events of each kind are ``seen`` [B, D, L], by each of the ``weights`` [B, D or 1, L], beside each
    other, [B, D, weights * T]; ``kinds`` [B, L, T] says what each event is."""
    return tf.concat([tf.matmul(seen * weight, kinds) for weight in weights], axis=-1)


def moment_matches(past: Tensor, own: Tensor, weighed: Tensor, visible: Tensor, nearness: Tensor) -> Tensor:
    """What matches each candidate in one moment for all: :func:`log_counts` of the events, and how near the last of
    them is, [B, D, C + 1].

    Candidates that match the same events have the same of both. So it is reckoned for each event and those like it, and
    a candidate takes that of the last event it matches: there are fewer events than candidates.

    Args:
        past, own: the item or category of each event [B, L] and of each candidate [B, D].
        weighed: what each event counts [B, L, C]; ``visible`` bool and ``nearness`` [B, L].
    """
    alike = tf.cast(past[:, :, None] == past[:, None, :], tf.float32)  # [B, L, L]
    matches = tf.concat([log_counts(tf.matmul(alike, weighed)), nearness[..., None]], axis=-1)
    matches = tf.pad(matches, [[0, 0], [1, 0], [0, 0]])  # [B, 1 + L, C + 1]; the first is for who matches nothing
    last = tf.where((past[:, None] == own[..., None]) & visible[:, None], 1 + tf.range(tf.shape(past)[1]), 0)
    return tf.gather(matches, tf.reduce_max(last, axis=-1), batch_dims=1)
