"""Functions that are compiled for batches of a few sizes: what they take as one array, padded to the next size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.runtime.sizes import Sizes
from models.contract import TensorSpec
from models.encode import Arrays

Tensors = dict[str, Any]


class Packing:
    """Inputs of a batch as one array, in words of two bytes, a row after the other.

    TensorFlow takes some 50 us for each array that it is handed, however small, and holds Python's lock meanwhile.

    Args:
        specs: of the inputs, by name, of two or four bytes a number; only the number of rows may be open.
    """

    def __init__(self, specs: Mapping[str, TensorSpec]) -> None:
        self._fields = {
            n: (np.dtype(spec.dtype), tuple(int(s or 0) for s in spec.shape[1:])) for n, spec in specs.items()
        }
        self._row = np.dtype([(name, *field) for name, field in self._fields.items()])
        self.width = self._row.itemsize // 2

    def rows(self, arrays: Arrays) -> int:
        """How many rows the inputs have."""
        return len(arrays[next(iter(self._fields))])

    def pack(self, arrays: Arrays, rows: int) -> NDArray[np.uint16]:
        """Inputs of at most so many rows, [rows, width]; zeros below."""
        packed = np.zeros(rows, self._row)
        for name in self._fields:
            packed[name][: len(arrays[name])] = arrays[name]
        return packed.view(np.uint16).reshape(rows, self.width)

    def unpack(self, packed: Any) -> Tensors:
        """The inputs of what was packed [B, width], in a graph."""
        tensors, place = {}, 0
        for name, (dtype, shape) in self._fields.items():
            words = dtype.itemsize // 2
            part = packed[:, place : place + prod(shape) * words]
            place += prod(shape) * words
            part = tf.reshape(part, [tf.shape(packed)[0], *shape, *[words] * (words > 1)])
            tensors[name] = tf.bitcast(part, tf.as_dtype(dtype))
        return tensors


class Compiled:
    """A function compiled by XLA for each of the sizes of a batch, when it is first run: in the warm-up.

    A batch is padded to the next size, and its outputs are cut again. TensorFlow numbers graphs as they are made, and
    looks compiled code up by that name too. So all are made here, in one order; in which order a process compiles them
    depends on the others (:mod:`app.runtime.compiled`).

    Args:
        inputs: of the function, by name; a mask ``allowed`` may be among them.
        places: length of a mask.
    """

    def __init__(
        self, function: Callable[..., Tensors], inputs: Mapping[str, TensorSpec], sizes: Sizes, places: int
    ) -> None:
        self._sizes, self._places, self._masked = sizes, places, "allowed" in inputs
        self._packing = packing = Packing({name: spec for name, spec in inputs.items() if name != "allowed"})
        self._shared: dict[int, tuple[NDArray[np.bool_], Any]] = {}

        def unpacked(packed: Any, *masks: Any) -> Tensors:
            return function(**packing.unpack(packed), **dict(zip(["allowed"], masks, strict=False)))

        graph = tf.function(unpacked, jit_compile=True, autograph=False)
        self._graphs = {size: graph.get_concrete_function(*self._specs(size)) for size in sizes}

    def _specs(self, size: int) -> list[tf.TensorSpec]:
        masks = [tf.TensorSpec([size, self._places], tf.bool)] * self._masked
        return [tf.TensorSpec([size, self._packing.width], tf.uint16), *masks]

    def __call__(self, arrays: Arrays) -> Arrays:
        """The outputs for a batch."""
        rows = self._packing.rows(arrays)
        size = self._sizes.above(rows)
        masks = [self._masks(arrays["allowed"], size)] if self._masked else []
        outputs = self._graphs[size](tf.constant(self._packing.pack(arrays, size)), *masks)
        return {name: tensor.numpy()[:rows] for name, tensor in outputs.items()}

    def _masks(self, allowed: NDArray[np.bool_], size: int) -> Any:
        """Masks [B or 1, I] for so many rows. Most requests share one, and it is large: the last of a size is kept."""
        if len(allowed) > 1:
            return tf.constant(longer(allowed, size))
        kept = self._shared.get(size)
        if kept is None or kept[0] is not allowed:
            kept = self._shared[size] = allowed, tf.constant(np.broadcast_to(allowed, (size, self._places)))
        return kept[1]


def longer(array: Any, rows: int) -> Any:
    """An array with zeros (False) below, up to so many rows."""
    if len(array) == rows:
        return array
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded
