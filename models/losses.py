"""What training minimises; each function is small enough to check by hand."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

Tensor = Any


def binary_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of -[y log p + (1 - y) log(1 - p)] with p = sigmoid(logit); any shape, scalar out."""
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return weighted_mean(each, weights)


def gamma_deviance(log_mean: Tensor, amounts: Tensor) -> Tensor:
    """Half the mean gamma deviance y / m - log(y / m) - 1 over the known amounts (NaN = unknown), scalar out.

    Amounts are positive and skewed, and their spread grows with their size; under this loss the minimiser is still the
    conditional mean, and an error of 10 % costs the same on a small amount as on a large one (McCullagh & Nelder,
    Generalized Linear Models, ch. 8).
    """
    known = tf.math.is_finite(amounts) & (amounts > 0)
    y = tf.where(known, amounts, 1.0)
    log_ratio = tf.math.log(y) - log_mean
    return weighted_mean(tf.exp(log_ratio) - log_ratio - 1.0, tf.cast(known, tf.float32))


def sampled_softmax(right: Tensor, wrong: Tensor, hits: Tensor, log_odds: float, known: Tensor) -> Tensor:
    """Softmax cross-entropy of each positive against shared, uniformly drawn negatives, scalar out.

    Args:
        right: logits of the positives [R]; ``wrong``: logits of the negatives [R, S].
        hits: [R, S], true where a negative is the positive itself; it is left out.
        log_odds: log((V - 1) / S), the logQ correction of uniform sampling (Bengio & Senécal 2008).
        known: [R], true for rows that count.
    """
    others = tf.where(hits, -1e9, wrong + log_odds)
    logits = tf.concat([right[:, None], others], axis=1)  # [R, 1 + S]
    return weighted_mean(tf.reduce_logsumexp(logits, axis=1) - right, tf.cast(known, tf.float32))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Sum of weight * value over the sum of weights; 0 where all weights are 0."""
    return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))
