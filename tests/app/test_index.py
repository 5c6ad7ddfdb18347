"""The index by itself: what it keeps of vectors, and that it finds what is best."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.runtime.index import BLOCK, SHELF, Index, best_in_shelves
from app.runtime.precision import BYTES, HALF, Precision, finest
from models.contract import PAD

PRECISIONS = pytest.mark.parametrize("precision", [BYTES, HALF])


def scores(precision: Precision, vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    asked = precision.asked(tf.constant(queries))
    products = tf.cast(precision.products(precision.kept(vectors), asked), tf.float32)
    return np.asarray((tf.transpose(products) * asked.step).numpy())


@PRECISIONS
def test_products_are_those_of_the_vectors_for_numbers_that_need_no_rounding(precision: Precision) -> None:
    """1 is kept as 127 / 127, and of a query as 64 / 64."""
    vectors = np.array([[1, 0, -1], [-1, -1, -1], [0, 0, 0], [1, 1, 1]], np.float32)
    queries = np.array([[4, 2, -4], [-8, -8, -8]], np.float32)
    np.testing.assert_allclose(
        scores(precision, vectors, queries), [[8, -2, 0, 2], [0, 24, 0, -24]], rtol=1e-6, atol=1e-5
    )


@PRECISIONS
def test_the_largest_products_do_not_overflow(precision: Precision) -> None:
    """Processors without VNNI add two products up in 16 bits: 2 * 255 * 64 = 32,640 is just within them."""
    ones = np.ones((40, 64), np.float32)
    np.testing.assert_allclose(scores(precision, ones, 3 * ones[:17]), np.full((17, 40), 192), rtol=1e-6)


@PRECISIONS
def test_a_query_of_zeros_likes_all_alike(precision: Precision) -> None:
    vectors = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_allclose(scores(precision, vectors, np.zeros((2, 3), np.float32)), np.zeros((2, 4)), atol=1e-30)


@PRECISIONS
@pytest.mark.parametrize("skewed", [False, True])
def test_the_best_hundred_are_found_also_where_few_vectors_are_a_hundred_times_as_long(
    precision: Precision, skewed: bool
) -> None:
    """One query likes none of the long ones: those that point away from them are found by their own scale."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(30_000, 64)).astype(np.float32)
    queries = rng.normal(size=(20, 64)).astype(np.float32)
    if skewed:
        vectors *= 0.1 + rng.pareto(2.0, (len(vectors), 1)).astype(np.float32)
        vectors[:50] = -100 * queries[0]
    found, floors = Index(vectors, precision).search(queries, 130)
    truth = queries @ vectors.T
    for row, ids in enumerate(found):
        best = np.argsort(-truth[row])[:100]
        assert len(set(ids.tolist())) == 130 * BLOCK
        assert len(np.intersect1d(best, ids)) >= 99
        others = np.setdiff1d(np.arange(len(vectors)), ids)
        assert truth[row][others].max() <= floors[row] + 0.02 * np.abs(truth[row]).max()


@pytest.mark.parametrize("count", [1, 7, 16, 17, 300, 16_385])
def test_of_any_number_of_vectors_all_are_found_where_all_are_asked_for(count: int) -> None:
    vectors = np.random.default_rng(1).normal(size=(count, 8)).astype(np.float32)
    index = Index(vectors)
    ids, floors = index.search(vectors[:2], count)
    assert len(index) == count
    for row in ids:
        assert set(row.tolist()) | {PAD} == set(range(count)) | {PAD}
    assert (floors == -np.inf).all()


@given(st.data())
def test_the_best_are_chosen_by_way_of_shelves(data: st.DataObject) -> None:
    """Also where many are equal: which of those does not matter, so scores are compared and not places."""
    shelves, queries = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 4))
    count = data.draw(st.integers(1, shelves * SHELF))
    flat = data.draw(st.lists(st.integers(-9, 9), min_size=shelves * SHELF, max_size=shelves * SHELF))
    scores = np.stack([np.roll(flat, 5 * query) for query in range(queries)], axis=1).astype(np.float32)
    tops = scores.reshape(SHELF, shelves, queries).max(axis=0)
    places, least = best_in_shelves(scores, tops, count)
    assert places.shape == (queries, count)
    for query in range(queries):
        assert len(set(places[query].tolist())) == count
        assert sorted(scores[places[query], query]) == sorted(scores[:, query])[-count:]
        assert least[query] == min(scores[places[query], query])


def test_vectors_of_zeros_can_be_kept() -> None:
    ids, _ = Index(np.zeros((100, 4), np.float32)).search(np.ones((1, 4), np.float32), 3)
    assert ids.shape == (1, 3 * BLOCK)


def test_a_byte_a_number_is_a_quarter_of_the_vectors() -> None:
    vectors = np.random.default_rng(2).normal(size=(20_000, 64)).astype(np.float32)
    assert Index(vectors, BYTES).bytes < 0.28 * vectors.nbytes
    assert Index(vectors, HALF).bytes < 0.53 * vectors.nbytes


def test_half_precision_where_tensorflow_cannot_multiply_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in one built without oneDNN, whose error this is."""

    def missing(**inputs: object) -> None:
        raise tf.errors.NotFoundError(None, None, "Could not find device for node: QuantizedMatMulWithBias")

    monkeypatch.setattr(tf.raw_ops, "QuantizedMatMulWithBias", missing)
    assert finest() is HALF
