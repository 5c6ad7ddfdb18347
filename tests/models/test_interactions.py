"""Feature interactions: one function, computed in two ways."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.interactions import Interactions


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_candidates_of_one_moment_are_judged_as_if_each_came_with_its_own_copy_of_it(layers: int) -> None:
    keras.utils.set_random_seed(3)
    network = Interactions(5, 7, 2, rank=4, layers=layers, hidden=(6, 3), dropout=0.5, input_dropout=0.5)
    random = np.random.default_rng(3)
    own, shared = (tf.constant(random.normal(size=size), tf.float32) for size in ((2, 9, 5), (2, 1, 7)))
    network(own, tf.tile(shared, [1, 9, 1]))
    for variable in network.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    together = network(own, shared)
    apart = network(own, tf.tile(shared, [1, 9, 1]))
    assert together.shape == (2, 9, 2)
    np.testing.assert_allclose(together, apart, rtol=2e-4, atol=2e-4)


def test_a_cross_by_hand() -> None:
    network = Interactions(1, 1, 1, rank=1, layers=1, hidden=(1,), dropout=0.0, input_dropout=0.0)
    network(tf.ones([1, 1, 1]), tf.ones([1, 1, 1]))
    network.down[0].kernel.assign([[1.0], [2.0]])
    network.up[0].kernel.assign([[3.0, 4.0]])
    network.up[0].bias.assign([0.5, -0.5])
    network.deep[0].kernel.assign([[0.0], [0.0]])
    network.head.kernel.assign([[1.0], [10.0], [0.0]])
    # x = (2, 3): z = 2 + 2 * 3 = 8, crossed = (2 * (24 + .5) + 2, 3 * (32 - .5) + 3) = (51, 97.5), head 51 + 975.
    # x = (-1, 3): z = 5, crossed = (-1 * 15.5 - 1, 3 * 19.5 + 3) = (-16.5, 61.5), head -16.5 + 615.
    logits = network(tf.constant([[[2.0], [-1.0]]]), tf.constant([[[3.0]]]))
    np.testing.assert_allclose(logits[0, :, 0], [1026.0, 598.5], rtol=1e-6)
