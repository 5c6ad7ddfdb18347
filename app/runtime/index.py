"""An index of the catalogue: finds the vectors whose inner products with a query are largest."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.runtime.precision import Precision, finest
from models.contract import PAD
from models.vocabulary import Ids

#: Vectors that share a place: of each block only the best score is kept.
BLOCK = 8
#: Blocks that are scored at once: so few that the scores of a batch stay in the processor's last cache, and so many
#: that beginning with them (30 us) does not count.
CHUNK = 65_536 // BLOCK
#: Blocks of whose scores only the best is looked at in the first round of the selection.
SHELF = 16

Scores = NDArray[np.float32]


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
        search = tf.function(self._best_of_blocks, autograph=False)
        # Traced here, for a million items take a second; no request is to wait for that.
        self._search = search.get_concrete_function(tf.TensorSpec((None, vectors.shape[1])))

    def __len__(self) -> int:
        """How many vectors it holds."""
        return self._count

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        codes = sum(int(chunk.shape.num_elements()) * chunk.dtype.size for chunk in self._chunks)
        return int(codes + self._members.nbytes + sum(scales.nbytes for scales in self._scales))

    def search(self, queries: Scores, count: int) -> tuple[Ids, Scores]:
        """At least the best ``count`` ids for each query [B, width]: ids [B, n * BLOCK], PAD where there is none.

        Beside them what no other id scores better than, [B], but for rounding; -inf where all were found.
        """
        most = min(count, len(self._members))
        scores, tops, step = (np.asarray(tensor) for tensor in self._search(tf.constant(queries)))  # no copies
        blocks, least = best_in_shelves(scores, tops, most)
        floor = least * step[:, 0] if most < len(self._members) else np.full(len(queries), -np.inf, np.float32)
        return self._members[blocks].reshape(len(queries), -1), floor

    def _best_of_blocks(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The best score of each block [N, B] and of each shelf [n, B], and what a score of one stands for, [B, 1].

        N is n * SHELF: the last shelves are filled up with what is never chosen.
        """
        asked = self._precision.asked(queries)
        best = []
        for chunk, scales in zip(self._chunks, self._scales, strict=True):
            products = tf.reshape(self._precision.products(chunk, asked), [BLOCK, len(scales), -1])
            best.append(tf.cast(tf.reduce_max(products, axis=0), tf.float32) * scales)
        shelves = -(-len(self._members) // SHELF)
        filling = tf.fill([shelves * SHELF - len(self._members), tf.shape(queries)[0]], -np.inf)
        scores = tf.concat([*best, filling], axis=0)
        return scores, tf.reduce_max(tf.reshape(scores, [SHELF, shelves, -1]), axis=0), asked.step


def best_in_shelves(scores: Scores, tops: Scores, count: int) -> tuple[Ids, Scores]:
    """Of each column of scores [N, B] the ``count`` best places, in no order, [B, count], and the least of them, [B].

    They lie in the ``count`` shelves whose best are best. By numpy: its selection takes half as long as TensorFlow's.

    Args:
        tops: the best score of each shelf [n, B]; shelf i has the places i, i + n, i + 2n ..
    """
    shelves, columns = len(tops), np.arange(scores.shape[1])[:, None]
    chosen = _best(np.ascontiguousarray(tops.T), min(count, shelves))  # [B, shelves that are looked into]
    inside = (chosen[:, :, None] + shelves * np.arange(len(scores) // shelves)).reshape(len(columns), -1)
    found = scores.ravel().take(inside * len(columns) + columns)
    best = _best(found, count)
    return np.take_along_axis(inside, best, axis=1), np.take_along_axis(found, best, axis=1).min(axis=1)


def _best(rows: Scores, count: int) -> NDArray[np.intp]:
    """Places of the best of each row, in no order."""
    return np.argpartition(rows, rows.shape[1] - count, axis=1)[:, rows.shape[1] - count :]
