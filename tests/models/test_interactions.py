"""Feature interactions: one function, computed in two ways."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.interactions import Interactions


@pytest.mark.parametrize("products", [0, 1, 3])
def test_candidates_of_one_moment_are_judged_as_if_each_came_with_its_own_copy_of_it(products: int) -> None:
    keras.utils.set_random_seed(3)
    network = Interactions(2, rank=4, products=products, hidden=(6, 3), dropout=0.5, input_dropout=0.5)
    random = np.random.default_rng(3)
    own, shared = (
        [tf.constant(random.normal(size=(2, rows, width)), tf.float32) for width in widths]
        for rows, widths in ((9, (2, 3)), (1, (7,)))
    )
    copies = [tf.tile(part, [1, 9, 1]) for part in shared]
    network(own, copies)
    for variable in network.trainable_variables:
        variable.assign(random.normal(size=variable.shape) / 2)
    together, apart = network(own, shared), network(own, copies)
    assert together.shape == (2, 9, 2)
    np.testing.assert_allclose(together, apart, rtol=2e-4, atol=2e-4)


def test_products_by_hand() -> None:
    network = Interactions(1, rank=1, products=2, hidden=(1,), dropout=0.0, input_dropout=0.0)
    network([tf.ones([1, 1, 1])], [tf.ones([1, 1, 1])])
    # Columns: three factors, the deep part, the logit itself.
    network.entry.kernel.assign([[1.0, 3.0, 0.0, 0.0, 1.0], [2.0, 4.0, 1.0, 0.0, 10.0]])
    network.entry.bias.assign([0.0, 0.5, -2.0, 0.0, 7.0])
    network.head.kernel.assign([[100.0], [1000.0], [0.0]])
    # x = (2, 3): factors 2 + 6 = 8, 6 + 12 + .5 = 18.5, 3 - 2 = 1; products 148 and 148; 39 + 14800 + 148000.
    # x = (-1, 3): factors 5, 9.5, 1; products 47.5 and 47.5; -1 + 30 + 7 = 36, + 4750 + 47500.
    logits = network([tf.constant([[[2.0], [-1.0]]])], [tf.constant([[[3.0]]])])
    np.testing.assert_allclose(logits[0, :, 0], [162839.0, 52286.0], rtol=1e-6)


def test_products_begin_as_nothing() -> None:
    network = Interactions(1, rank=4, products=2, hidden=(3,), dropout=0.0, input_dropout=0.0)
    features = [tf.random.stateless_normal([1, 5, 6], [1, 2])]
    logits = network(features, [])
    network.head.kernel.assign(tf.concat([tf.fill([8, 1], 9.0), network.head.kernel[8:]], axis=0))
    np.testing.assert_allclose(network(features, []), logits, rtol=1e-6)
