"""An index of the catalogue: finds the vectors whose inner products with a query are largest."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.runtime.precision import Precision, finest
from models.contract import PAD
from models.topk import best_in_blocks
from models.vocabulary import Ids

#: Vectors that share a place: of each block only the best score is kept.
BLOCK = 8
#: Blocks that are scored at once: so few that the scores of a batch stay in the processor's cache.
CHUNK = 16_384 // BLOCK
#: Blocks of whose scores only the best is looked at in the first round of the selection.
SHELF = 16


class Index:
    """Every vector, in few bits, in blocks; why that, and not a graph or codes: docs/decisions/0013-index.md.

    Args:
        vectors: float32 [V, width]; the row is the id.
        precision: what the vectors are kept in; left out, the smallest that this machine multiplies fast.
    """

    def __init__(self, vectors: NDArray[np.float32], precision: Precision | None = None) -> None:
        self._count = len(vectors)
        self._precision = precision or finest()
        # The vectors of a block share a scale, so they are of like size: short ones keep their digits beside long ones.
        # The longest come first, for most of the best are among them, and then a selection is soon done.
        size = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
        order = np.pad(np.argsort(-size), (0, -len(size) % BLOCK), constant_values=PAD)
        self._members: Ids = order.astype(np.int32).reshape(-1, BLOCK)
        scales = np.maximum(size[self._members].max(axis=1), np.finfo(np.float32).tiny)
        parts = [slice(start, start + CHUNK) for start in range(0, len(scales), CHUNK)]
        self._scales = [scales[part, None] for part in parts]
        self._chunks = []
        for part in parts:
            scaled = vectors[self._members[part].T] / scales[part, None]  # [BLOCK, blocks, width]
            self._chunks.append(self._precision.kept(scaled.reshape(-1, vectors.shape[1])))
        search = tf.function(self._best_blocks, autograph=False)
        # Traced here, for a million items take a second; no request is to wait for that.
        shape = (None, vectors.shape[1])
        self._search = search.get_concrete_function(tf.TensorSpec(shape), tf.TensorSpec((), tf.int32))

    def __len__(self) -> int:
        """How many vectors it holds."""
        return self._count

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        codes = sum(int(chunk.shape.num_elements()) * chunk.dtype.size for chunk in self._chunks)
        return int(codes + self._members.nbytes + sum(scales.nbytes for scales in self._scales))

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[Ids, NDArray[np.float32]]:
        """At least the best ``count`` ids for each query [B, width]: ids [B, n * BLOCK], PAD where there is none.

        Beside them what no other id scores better than, [B], but for rounding; -inf where all were found.
        """
        most = min(count, len(self._members))
        scores, blocks = (tensor.numpy() for tensor in self._search(tf.constant(queries), tf.constant(most)))
        floor = scores[:, -1] if most < len(self._members) else np.full(len(queries), -np.inf, np.float32)
        return self._members[blocks].reshape(len(queries), -1), floor

    def _best_blocks(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        asked = self._precision.asked(queries)
        best = []
        for chunk, scales in zip(self._chunks, self._scales, strict=True):
            products = tf.reshape(self._precision.products(chunk, asked), [BLOCK, len(scales), -1])
            best.append(tf.cast(tf.reduce_max(products, axis=0), tf.float32) * scales)
        scores, blocks = best_in_blocks(tf.concat(best, axis=0), count, SHELF)
        return scores * asked.step, blocks
