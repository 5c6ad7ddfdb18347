"""Losses and metrics against fractions computed by hand, and the losses' gradients against finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import tensorflow as tf

from models.losses import examined_cross_entropy, full_softmax, log_error, sampled_softmax, weighted_mean
from models.metrics import (
    auc,
    expected_calibration_error,
    log_loss,
    ndcg_and_hit_rate,
)


def test_cross_entropy_is_the_weighted_mean_of_log_probabilities() -> None:
    logits = tf.constant([0.0, math.log(3)])  # p = 1/2, 3/4
    loss = examined_cross_entropy(logits, tf.constant([1.0, 0.0]), tf.constant([1.0, 3.0]), tf.ones([2]))
    assert float(loss) == pytest.approx((math.log(2) + 3 * math.log(4)) / 4, rel=1e-6)


def test_what_is_half_looked_at_is_half_as_likely() -> None:
    logits, look = tf.constant([math.log(3), math.log(3)]), tf.constant([0.5, 0.5])  # q = 1/2 * 3/4
    loss = examined_cross_entropy(logits, tf.constant([1.0, 0.0]), tf.ones([2]), look)
    assert float(loss) == pytest.approx(-(math.log(3 / 8) + math.log(5 / 8)) / 2, rel=1e-6)


@pytest.mark.parametrize("look", [1.0, 1e-6])
def test_cross_entropy_and_its_gradients_stay_finite_at_extreme_logits(look: float) -> None:
    logits, places = tf.Variable([-90.0, 90.0, -90.0, 90.0]), tf.Variable([look] * 4)
    with tf.GradientTape() as tape:
        loss = examined_cross_entropy(logits, tf.constant([1.0, 1.0, 0.0, 0.0]), tf.ones([4]), places)
    assert all(np.isfinite(x.numpy()).all() for x in (loss, *tape.gradient(loss, [logits, places])))


def test_log_error_is_zero_where_right_and_skips_what_is_unknown() -> None:
    amounts = tf.constant([2.0, math.nan, 4.0])
    assert float(log_error(tf.math.log([2.0, 9.0, 4.0]), amounts)) == pytest.approx(0.0, abs=1e-6)
    # twice too high, both: sqrt(log(2)**2 + .05**2) - .05
    assert float(log_error(tf.math.log([4.0, 9.0, 8.0]), amounts)) == pytest.approx(0.644948, rel=1e-5)


def test_log_error_is_least_at_the_median() -> None:
    amounts = tf.constant([1.0, 2.0, 3.0, 4.0, 1000.0])
    costs = [float(log_error(tf.fill([5], math.log(guess)), amounts)) for guess in (2.0, 3.0, 4.0, 202.0)]
    assert min(costs) == costs[1]


def test_sampled_softmax_leaves_out_the_positive_among_the_negatives() -> None:
    right = tf.constant([math.log(2)])
    wrong = tf.constant([[0.0, 7.0]])  # of which 7 is the positive itself
    loss = sampled_softmax(right, wrong, tf.constant([[False, True]]), tf.constant([True]))
    assert float(loss) == pytest.approx(-math.log(2 / 3), rel=1e-5)


def test_sampled_softmax_counts_each_negative_for_all_it_stands_for() -> None:
    wrong = tf.zeros([1, 1]) - math.log(1 / 3)  # expected a third of a time in a draw: it stands for three items
    loss = sampled_softmax(tf.zeros([1]), wrong, tf.constant([[False]]), tf.constant([True]))
    assert float(loss) == pytest.approx(math.log(4), rel=1e-5)  # one of four equal items


def test_full_softmax_is_the_mean_over_known_rows() -> None:
    logits = tf.constant([[0.0, math.log(3)], [5.0, 1.0]])
    loss = full_softmax(logits, tf.constant([1, 0]), tf.constant([True, False]))
    assert float(loss) == pytest.approx(math.log(4 / 3), rel=1e-5)


def test_no_weight_at_all_is_a_loss_of_zero() -> None:
    assert float(weighted_mean(tf.constant([3.0]), tf.constant([0.0]))) == 0.0


@pytest.mark.parametrize("loss", ["binary", "size", "softmax"])
def test_gradients_agree_with_finite_differences(loss: str) -> None:
    rng = np.random.default_rng(0)
    labels, weights = tf.constant([1.0, 0.0, 1.0]), tf.constant([1.0, 2.0, 0.5])
    others = tf.constant(rng.normal(size=(4, 3)), tf.float32)

    def value(x: tf.Tensor) -> tf.Tensor:
        if loss == "binary":
            return examined_cross_entropy(x, labels, weights, tf.constant([1.0, 0.6, 0.3]))
        if loss == "size":
            return log_error(x, tf.constant([0.5, 2.0, math.nan]))
        return sampled_softmax(x, others[:3, :3], tf.eye(3) > 0, tf.constant([True, False, True]))

    theoretical, numerical = tf.test.compute_gradient(value, [tf.constant(rng.normal(size=3), tf.float32)], delta=1e-2)
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=5e-3)


def test_auc_counts_pairs_in_order() -> None:
    # positives .4, .8; negatives .1, .5: of four pairs three are in order
    assert auc(np.array([1, 1, 0, 0]), np.array([0.4, 0.8, 0.1, 0.5])) == 0.75
    assert math.isnan(auc(np.ones(3), np.arange(3)))


def test_log_loss_and_calibration_error() -> None:
    labels, p = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.25, 0.25, 0.75, 0.75])
    assert log_loss(labels, p) == pytest.approx(-(math.log(0.25) + math.log(0.75)) / 2)
    # two bins of two rows: rates 1/2 and 1/2 against 1/4 and 3/4
    assert expected_calibration_error(labels, p, bins=2) == pytest.approx(0.25)


def test_ndcg_and_hit_rate_of_single_items() -> None:
    ndcg, hit_rate = ndcg_and_hit_rate(np.array([1, 3, 11]))
    assert ndcg == pytest.approx((1 + 0.5 + 0) / 3)
    assert hit_rate == pytest.approx(2 / 3)
