"""What training minimises; each function is small enough to check by hand."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any

#: Keeps the logarithm of nothing finite, and with it the gradient.
TINY = 1e-12
#: Errors of a logarithm below this cost their square rather than their size.
SMOOTH = 0.05


def examined_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor, look: Tensor) -> Tensor:
    """Weighted mean of -[y log q + (1 - y) log(1 - q)] with q = look * sigmoid(logit); any shape, scalar out.

    With ``look`` 1 it is the binary cross-entropy; else the position-based click model, in which the logit says what
    would happen at a place that is certainly looked at. Finite for every finite logit.
    """
    log_yes = tf.math.log(look) - tf.nn.softplus(-logits)
    # 1 - look * sigmoid(z) = [exp(-z) + 1 - look] * sigmoid(z), both factors through their logarithms.
    unseen = tf.broadcast_to(tf.math.log(1.0 - look + TINY), tf.shape(logits))
    log_no = tf.reduce_logsumexp(tf.stack([-logits, unseen]), axis=0) - tf.nn.softplus(-logits)
    return weighted_mean(-labels * log_yes - (1.0 - labels) * log_no, weights)


def log_error(log_guess: Tensor, amounts: Tensor) -> Tensor:
    """Mean |log amount - log guess| over the known amounts (NaN = unknown), scalar out; within SMOOTH of 0 rounded off.

    Its minimiser is the conditional median, of the logs and so of the amounts: as often more comes as less. Amounts are
    positive and skewed, and a mean of theirs is made by a few large orders, which no history announces; the median is
    what the mean absolute error asks for. An error of 10 % costs the same on a small amount as on a large one, and the
    gradient of the wildest row is no larger than that of any other (Koenker & Bassett 1978; pseudo-Huber: Charbonnier
    et al. 1997).
    """
    known = tf.math.is_finite(amounts) & (amounts > 0)
    error = tf.math.log(tf.where(known, amounts, 1.0)) - log_guess
    return weighted_mean(tf.sqrt(tf.square(error) + SMOOTH**2) - SMOOTH, tf.cast(known, tf.float32))


def full_softmax(logits: Tensor, right: Tensor, known: Tensor) -> Tensor:
    """Mean cross-entropy of rows of logits [R, V] whose right answers are ``right`` [R]; ``known`` [R] rows count."""
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=right, logits=logits)
    return weighted_mean(each, tf.cast(known, tf.float32))


def sampled_softmax(right: Tensor, wrong: Tensor, hits: Tensor, known: Tensor) -> Tensor:
    """Softmax cross-entropy of each positive against shared negatives, scalar out (Bengio & Senécal 2008).

    Args:
        right: logits of the positives [R]; ``wrong``: logits of the negatives [R, S], less the logarithm of how often
            each is expected among the S (the logQ correction).
        hits: [R, S], true where a negative is the positive itself; it is left out.
        known: [R], true for rows that count.
    """
    logits = tf.concat([right[:, None], tf.where(hits, -1e9, wrong)], axis=1)  # [R, 1 + S]
    return weighted_mean(tf.reduce_logsumexp(logits, axis=1) - right, tf.cast(known, tf.float32))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of weight * value over the sum of weights; 0 where all weights are 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
