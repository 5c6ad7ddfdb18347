"""Match features: counted by hand, and the same for one candidate as for the whole catalogue."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from models.contract import EXPOSURES
from models.matches import HALF_LIVES, match_catalogue, match_features, match_width, pack_tail, unpack_tail

# Items 2, 3, 4; one category level: 2 and 3 share category 2, item 4 has none.
CATEGORIES = tf.constant([[0], [0], [2], [2], [0]])
ITEMS = tf.constant([[0, 2, 3, 2]])
TYPES = tf.constant([[0, 2, 3, 2]])  # click 2, cart 3, click 2
AGES = tf.constant([[[0.0, 48.0, 24.0, 0.0]]])
L2, L3 = math.log(2), math.log(3)


def faded(*ages: float) -> list[float]:
    """log1p of the counts of events of these ages, whole and by each half-life."""
    return [math.log1p(len(ages)), *(math.log1p(sum(0.5 ** (a / half_life) for a in ages)) for half_life in HALF_LIVES)]


def mixed(*counts: list[float]) -> list[float]:
    """Counts by type, whole and fading, in the order of the columns: a type after the other for each half-life."""
    return [column for columns in zip(*counts, strict=True) for column in columns]


def test_features_count_the_same_item_and_category_by_type_and_say_how_recent() -> None:
    visible = tf.constant([[[False, True, True, True], [False, True, True, False]]])
    found = match_features(ITEMS, TYPES, AGES, visible, tf.constant([[2, 4]]), CATEGORIES, 2)
    assert found.shape == (1, 2, match_width(2, 1))
    # item clicks and carts, recency | category clicks and carts, recency | clicks and carts in all
    clicks, cart, none = faded(48, 0), faded(24), faded()
    want = [*mixed(clicks, none), 1, *mixed(clicks, cart), 1, *mixed(clicks, cart)]
    # An event of yesterday counts 6e-8 of an hour's half-life, which is less than log_counts can tell.
    np.testing.assert_allclose(found[0, 0], want, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found[0, 1], [0.0] * 22 + mixed(faded(48), cart), rtol=1e-5, atol=1e-7)


def test_a_half_life_halves() -> None:
    """One click on item 2 a day ago, one two days ago: 1 / 2 + 1 / 4 by the half-life of a day."""
    visible = tf.constant([[[False, True, False, True]]])
    found = match_features(
        ITEMS, TYPES, AGES + tf.constant([0.0, 0.0, 0.0, 24.0]), visible, tf.constant([[2]]), CATEGORIES, 2
    )
    np.testing.assert_allclose(found[0, 0, 4], math.log(1.75), rtol=1e-6)


def test_recency_counts_from_the_newest_event_a_candidate_may_see() -> None:
    visible = tf.constant([[[False, True, True, False]]])
    found = match_features(ITEMS, TYPES, AGES, visible, tf.constant([[2]]), CATEGORIES, 2).numpy()[0, 0]
    np.testing.assert_allclose(found[[0, 1, 10]], [L2, 0, 1 / 2], rtol=1e-6)  # the item
    np.testing.assert_allclose(found[[11, 12, 21]], [L2, L2, 1], rtol=1e-6)  # its category
    np.testing.assert_allclose(found[22:24], [L2, L2], rtol=1e-6)


def test_the_whole_catalogue_has_the_features_of_each_of_its_items() -> None:
    rng = np.random.default_rng(0)
    items, types = rng.integers(0, 40, (1, 12)), rng.integers(2, 5, (1, 12))
    categories = tf.constant(rng.integers(0, 6, (40, 2)), tf.int32)
    valid, ages = np.arange(12) >= 3, rng.uniform(0, 900, 12).astype(np.float32)
    exposures = tf.constant(rng.integers(0, 31, 12), tf.int32)
    every = tf.range(40)[None]
    one = match_features(
        tf.constant(items, tf.int32),
        tf.constant(types, tf.int32),
        tf.constant(ages[None, None]),
        tf.constant(np.broadcast_to(valid, (1, 40, 12))),
        every,
        categories,
        3,
        exposures=exposures[None],
    )[0]
    all_at_once = match_catalogue(
        tf.constant(items[0], tf.int32),
        tf.constant(types[0], tf.int32),
        tf.constant(ages),
        tf.constant(valid),
        categories,
        (6, 6),
        3,
        exposures,
    )
    np.testing.assert_allclose(one, all_at_once, rtol=1e-5, atol=1e-6)


def test_the_tail_of_a_state_survives_float16() -> None:
    items, types = tf.constant([[0, 2047, 2048, 4_194_303]]), tf.constant([[0, 1, 2, 31]])
    ages, exposures = tf.constant([[60_000.0, 1000.3, 1.25, 0.0]]), tf.constant([[0, 1, 10, 1 + EXPOSURES]])
    found = unpack_tail(tf.cast(pack_tail(items, types, ages, exposures), tf.float16))
    for place, want in ((0, items), (1, types), (3, exposures)):
        np.testing.assert_array_equal(found[place], want)
    np.testing.assert_allclose(found[2], ages, rtol=1 / 2048)


def test_what_was_shown_is_counted_in_all_whole_and_fading() -> None:
    """Ten items before the click 48 hours ago, and twenty before the one now; of the cart between nobody said."""
    visible, shown = tf.constant([[[False, True, True, True]]]), tf.constant([[8, 11, 0, 21]])
    history = ITEMS, TYPES, AGES, visible, tf.constant([[2]]), CATEGORIES, 2
    without, found = match_features(*history), match_features(*history, exposures=shown)
    assert found.shape[-1] == match_width(2, 1, exposed=True)
    np.testing.assert_array_equal(found[..., : match_width(2, 1)], without)
    shares = [1.0, *(0.5 ** (48 / half_life) for half_life in HALF_LIVES)]
    want = [math.log1p(number) for share in shares for number in (20 + 10 * share, 1 + share)]
    np.testing.assert_allclose(found[0, 0, match_width(2, 1) :], want, rtol=1e-5)


def test_candidates_that_share_a_moment_get_what_each_gets_alone() -> None:
    rng = np.random.default_rng(1)
    items, types = rng.integers(2, 5, (2, 6)), rng.integers(2, 4, (2, 6))
    ages, visible = rng.uniform(0, 500, (2, 1, 6)).astype(np.float32), rng.random((2, 1, 6)) < 0.7
    candidates = tf.constant([[2, 3, 4]] * 2)

    def features(copies: int) -> np.ndarray:
        when, seen = (tf.constant(np.repeat(array, copies, axis=1)) for array in (ages, visible))
        history = tf.constant(items, tf.int32), tf.constant(types, tf.int32)
        return np.asarray(match_features(*history, when, seen, candidates, CATEGORIES, 2))

    np.testing.assert_allclose(features(1), features(3), rtol=1e-5, atol=1e-6)
