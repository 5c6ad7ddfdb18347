"""What an index keeps of vectors: numbers of few bits, of which the machine multiplies many at once."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Tensor = Any

#: A number from -1 to 1 is kept as ZERO +- TOP; those of a query are of seven bits, +- QUERY_TOP, so that two products
#: together fit into the 16 bits in which processors without VNNI add them up.
ZERO, TOP, QUERY_TOP = 128, 127, 64


class Asked(NamedTuple):
    """Queries as they are multiplied, [width, B]; what is added to the products, [B]; and what a product of one stands
    for, float32 [B, 1]."""

    queries: Tensor
    more: Tensor
    step: Tensor


class Precision(Protocol):
    """A way to keep vectors, all of whose numbers are from -1 to 1, and to multiply them."""

    def kept(self, vectors: NDArray[np.float32]) -> Tensor:
        """Vectors [N, width], as they are kept."""
        ...

    def asked(self, queries: Tensor) -> Asked:
        """Queries, float32 [B, width], as they are multiplied."""
        ...

    def products(self, kept: Tensor, asked: Asked) -> Tensor:
        """Of all with all, [N, B]."""
        ...


class Bytes:
    """A byte a number: half the memory traffic of half precision, and twice the products in an instruction."""

    def kept(self, vectors: NDArray[np.float32]) -> Tensor:
        """See :class:`Precision`."""
        return tf.bitcast(tf.constant(np.rint(ZERO + TOP * vectors).astype(np.uint8)), tf.quint8)

    def asked(self, queries: Tensor) -> Asked:
        """See :class:`Precision`."""
        size = tf.maximum(tf.reduce_max(tf.abs(queries), axis=1), np.finfo(np.float32).tiny)
        rounded = tf.round(tf.transpose(queries) * (QUERY_TOP / size))
        more = tf.cast(-ZERO * tf.reduce_sum(rounded, axis=0), tf.int32)
        step = size[:, None] / (QUERY_TOP * TOP)
        return Asked(tf.bitcast(tf.cast(rounded, tf.int8), tf.qint8), tf.bitcast(more, tf.qint32), step)

    def products(self, kept: Tensor, asked: Asked) -> Tensor:
        """See :class:`Precision`."""
        found = tf.raw_ops.QuantizedMatMulWithBias(
            a=kept,
            b=asked.queries,
            bias=asked.more,
            # What the numbers stand for does not matter: the products themselves are asked for.
            min_a=0.0,
            max_a=255.0,
            min_b=-127.0,
            max_b=127.0,
            Toutput=tf.qint32,
            input_quant_mode="SCALED",
        )
        return tf.bitcast(found.out, tf.int32)


class Half:
    """bfloat16, which TensorFlow multiplies everywhere."""

    def kept(self, vectors: NDArray[np.float32]) -> Tensor:
        """See :class:`Precision`."""
        return tf.cast(vectors, tf.bfloat16)

    def asked(self, queries: Tensor) -> Asked:
        """See :class:`Precision`."""
        return Asked(tf.cast(tf.transpose(queries), tf.bfloat16), None, tf.ones((1, 1)))

    def products(self, kept: Tensor, asked: Asked) -> Tensor:
        """See :class:`Precision`."""
        return tf.matmul(kept, asked.queries)


BYTES, HALF = Bytes(), Half()


def finest() -> Precision:
    """The smallest precision that this machine multiplies: a GPU, or TensorFlow without oneDNN, has none for bytes."""
    if tf.config.list_logical_devices("GPU"):
        return HALF
    try:
        BYTES.products(BYTES.kept(np.ones((1, 1), np.float32)), BYTES.asked(tf.ones((1, 1))))
    except tf.errors.OpError:
        return HALF
    return BYTES
