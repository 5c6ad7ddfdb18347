"""What a compiled function takes as one array, and what it gives for batches of other sizes than its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.runtime.batches import Compiled, Packing
from app.runtime.sizes import for_answers
from models.contract import TensorSpec

SPECS = {
    "state": TensorSpec("float16", (None, 2, 3)),
    "lengths": TensorSpec("int32", (None,)),
    "named": TensorSpec("int32", (None, 2, 0)),
    "since": TensorSpec("float32", (None,)),
}
PACKING = Packing(SPECS)


def inputs(rows: int) -> st.SearchStrategy[dict[str, np.ndarray[Any, Any]]]:
    """Any numbers of all inputs for so many rows, NaN and infinity among them."""
    return st.fixed_dictionaries(
        {n: arrays(spec.dtype, (rows, *(int(size or 0) for size in spec.shape[1:]))) for n, spec in SPECS.items()}
    )


@pytest.mark.parametrize("compiled", [False, True])
@given(given=st.integers(1, 4).flatmap(inputs))
def test_what_is_packed_comes_out_bit_by_bit_with_zeros_below(
    given: dict[str, np.ndarray[Any, Any]], compiled: bool
) -> None:
    packed = PACKING.pack(given, 5)
    assert packed.shape == (5, PACKING.width) == (5, 6 + 2 + 0 + 2)
    found = tf.function(PACKING.unpack, jit_compile=compiled, autograph=False)(tf.constant(packed))
    for name, array in given.items():
        rows = len(array)
        assert PACKING.rows(given) == rows
        tensor = found[name].numpy()
        assert (tensor.dtype, tensor.shape) == (array.dtype, (5, *array.shape[1:]))
        assert tensor[:rows].tobytes() == array.tobytes()
        assert not tensor[rows:].any()


def test_numbers_of_other_types_are_cast_as_the_function_wants_them() -> None:
    packed = Packing({"lengths": SPECS["lengths"]}).pack({"lengths": np.array([7, 70_000], np.int64)}, 2)
    assert packed.view(np.int32).tolist() == [[7], [70_000]]


@pytest.fixture(scope="module")
def chosen() -> Compiled:
    """Of 3 places those that are allowed, times a number of each row."""
    inputs = {"since": SPECS["since"], "allowed": TensorSpec("bool", (None, None))}
    return Compiled(
        lambda since, allowed: {"out": since[:, None] * tf.cast(allowed, tf.float32)}, inputs, for_answers(8), 3
    )


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 8])
def test_a_batch_of_any_size_has_its_own_rows_and_masks(chosen: Compiled, rows: int) -> None:
    since = np.arange(1, rows + 1, dtype=np.float32)
    shared = np.array([[True, False, True]])
    own = np.array([[row % 2 == 0, True, False] for row in range(rows)])
    for allowed in (shared, own, shared):
        assert chosen({"since": since, "allowed": allowed})["out"].tolist() == (since[:, None] * allowed).tolist()


def test_a_mask_that_changes_is_not_mistaken_for_the_one_before(chosen: Compiled) -> None:
    since = np.ones(2, np.float32)
    for allowed in (np.array([[True, False, False]]), np.array([[False, False, True]])):
        assert chosen({"since": since, "allowed": allowed})["out"].tolist() == [allowed[0].tolist()] * 2
