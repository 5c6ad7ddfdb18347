"""Random words: the same by seed, compiled or not, and the numbers made of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from models.draws import below, unit, words


def drawn(compiled: bool) -> list[list[int]]:
    keras.utils.set_random_seed(3)
    seeds = keras.random.SeedGenerator()
    draw = tf.function(lambda: words(seeds, 5), jit_compile=compiled)
    return [draw().numpy().tolist() for _ in range(3)]


def test_words_are_the_same_by_the_seed_compiled_or_not_and_differ_from_call_to_call() -> None:
    plain = drawn(False)
    assert drawn(False) == drawn(True) == plain
    assert len({word for call in plain for word in call}) == 15


def test_numbers_are_made_of_words_by_hand() -> None:
    """-1 has all 32 bits: the greatest of all, 2**32 - 1; of it the upper 24 make 1 - 2**-24."""
    some = tf.constant([0, 255, 256, 2**31 - 1, -(2**31), -1], tf.int32)
    assert unit(some).numpy().tolist() == [0.0, 0.0, 2**-24, 0.5 - 2**-24, 0.5, 1 - 2**-24]
    assert below(10, some).numpy().tolist() == [0, 5, 6, 7, 2, 9]


@pytest.mark.parametrize("limit", [1, 7, 20_000])
def test_numbers_are_spread_evenly(limit: int) -> None:
    keras.utils.set_random_seed(0)
    found = below(limit, words(keras.random.SeedGenerator(), 100_000)).numpy()
    assert found.min() >= 0
    assert found.max() < limit
    often = np.bincount(found * 7 // limit if limit > 7 else found, minlength=min(limit, 7))
    mean = 100_000 / len(often)
    assert (abs(often - mean) < 5 * np.sqrt(mean)).all()
