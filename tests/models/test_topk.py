"""Selection by blocks gives what selection gives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from models import topk


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Blocks of two and more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topk, "FEWEST", 2)
        yield


@given(
    rows=st.lists(
        st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.5]), min_size=60, max_size=60), min_size=1, max_size=3
    ),
    length=st.integers(7, 60),
    k=st.integers(1, 7),
    expected=st.integers(1, 200),
)
def test_it_is_top_k_to_the_last_tie(rows: list[list[float]], length: int, k: int, expected: int) -> None:
    scores = tf.constant(rows, tf.float32)[:, :length]
    values, places = topk.top_k(scores, k, expected)
    want = tf.math.top_k(scores, k)
    assert values.numpy().tolist() == want.values.numpy().tolist()
    assert places.numpy().tolist() == want.indices.numpy().tolist()
