"""An index of the catalogue: finds the vectors whose inner products with a query are largest."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.contract import PAD
from models.vocabulary import Ids

#: Vectors that are scored at once: so few that the scores of a batch stay in the processor's cache.
CHUNK = 16_384
#: Vectors that share a place: of each block only the best score is kept.
BLOCK = 16


class Index:
    """Every vector, at half precision, in blocks; why that, and not a graph or codes: docs/decisions/0013-index.md.

    Args:
        vectors: float32 [V, width]; the row is the id.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._count = len(vectors)
        chunks = [_whole(vectors[start : start + CHUNK]) for start in range(0, self._count, CHUNK)]
        self._chunks = [tf.cast(chunk, tf.bfloat16) for chunk in chunks]
        # Which vectors a block has: it takes every n-th of its chunk, for neighbours are often alike.
        starts = np.arange(len(chunks)) * CHUNK
        members = [
            start + np.arange(len(chunk)).reshape(BLOCK, -1).T for start, chunk in zip(starts, chunks, strict=True)
        ]
        ids = np.concatenate(members)
        self._members: Ids = np.where(ids < self._count, ids, PAD).astype(np.int32)  # [blocks, BLOCK]
        width = vectors.shape[1]
        search = tf.function(self._best_blocks, autograph=False)
        # Traced here, for a million items take a second; no request is to wait for that.
        self._search = search.get_concrete_function(tf.TensorSpec((None, width)), tf.TensorSpec((), tf.int32))

    def __len__(self) -> int:
        """How many vectors it holds."""
        return self._count

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return 2 * sum(int(chunk.shape.num_elements()) for chunk in self._chunks) + int(self._members.nbytes)

    def search(self, queries: NDArray[np.float32], count: int) -> tuple[Ids, NDArray[np.float32]]:
        """At least the best ``count`` ids for each query [B, width]: ids [B, n * BLOCK], PAD where there is none.

        Beside them what no other id scores better than, [B], but for the rounding of half precision; -inf where all
        were found.
        """
        most = min(count, len(self._members))
        scores, blocks = (tensor.numpy() for tensor in self._search(tf.constant(queries), tf.constant(most)))
        floor = scores[:, -1] if most < len(self._members) else np.full(len(queries), -np.inf, np.float32)
        return self._members[blocks].reshape(len(queries), -1), floor

    def _best_blocks(self, queries: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        half = tf.cast(queries, tf.bfloat16)
        best = []
        for chunk in self._chunks:
            scores = tf.cast(tf.matmul(half, chunk, transpose_b=True), tf.float32)
            best.append(tf.reduce_max(tf.reshape(scores, [-1, BLOCK, chunk.shape[0] // BLOCK]), axis=1))
        found = tf.math.top_k(tf.concat(best, axis=1), count)
        return found.values, found.indices


def _whole(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors that fill their last block: with the last of them again, which changes no block's best."""
    return np.pad(vectors, ((0, -len(vectors) % BLOCK), (0, 0)), mode="edge")
