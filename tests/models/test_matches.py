"""Match features: counted by hand, and the same for one candidate as for the whole catalogue."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from models.matches import match_catalogue, match_features, match_width, pack_tail, unpack_tail

# Items 2, 3, 4; one category level: 2 and 3 share category 2, item 4 has none.
CATEGORIES = tf.constant([[0], [0], [2], [2], [0]])
ITEMS = tf.constant([[0, 2, 3, 2]])
TYPES = tf.constant([[0, 2, 3, 2]])  # click 2, cart 3, click 2
L2, L3, L4 = math.log(2), math.log(3), math.log(4)


def test_features_count_the_same_item_and_category_by_type_and_say_how_recent() -> None:
    visible = tf.constant([[[False, True, True, True], [False, True, True, False]]])
    found = match_features(ITEMS, TYPES, visible, tf.constant([[2, 4]]), CATEGORIES, 2)
    assert found.shape == (1, 2, match_width(2, 1))
    #        item clicks, carts, recency | category clicks, carts, recency | clicks, carts in all
    np.testing.assert_allclose(found[0, 0], [L3, 0, 1, L3, L2, 1, L3, L2], rtol=1e-6)
    np.testing.assert_allclose(found[0, 1], [0, 0, 0, 0, 0, 0, L2, L2], rtol=1e-6)


def test_recency_counts_from_the_newest_event_a_candidate_may_see() -> None:
    visible = tf.constant([[[False, True, True, False]]])
    found = match_features(ITEMS, TYPES, visible, tf.constant([[2]]), CATEGORIES, 2)
    np.testing.assert_allclose(found[0, 0], [L2, 0, 1 / 2, L2, L2, 1, L2, L2], rtol=1e-6)


def test_the_whole_catalogue_has_the_features_of_each_of_its_items() -> None:
    rng = np.random.default_rng(0)
    items, types = rng.integers(0, 40, (1, 12)), rng.integers(2, 5, (1, 12))
    categories = tf.constant(rng.integers(0, 6, (40, 2)), tf.int32)
    valid = np.arange(12) >= 3
    every = tf.range(40)[None]
    one = match_features(
        tf.constant(items, tf.int32),
        tf.constant(types, tf.int32),
        tf.constant(np.broadcast_to(valid, (1, 40, 12))),
        every,
        categories,
        3,
    )[0]
    all_at_once = match_catalogue(
        tf.constant(items[0], tf.int32), tf.constant(types[0], tf.int32), tf.constant(valid), categories, (6, 6), 3
    )
    np.testing.assert_allclose(one, all_at_once, rtol=1e-6)


def test_the_tail_of_a_state_survives_float16() -> None:
    items, types = tf.constant([[0, 2047, 2048, 4_194_303]]), tf.constant([[0, 1, 2, 9]])
    state = tf.cast(pack_tail(items, types), tf.float16)
    for got, want in zip(unpack_tail(state), (items, types), strict=True):
        np.testing.assert_array_equal(got, want)
