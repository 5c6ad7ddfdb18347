"""An approximate index of the catalogue: finds the vectors whose inner products with a query are largest."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from models.vocabulary import Ids

#: Bits for each number of a vector: sixteen steps, chosen for that very column. So the index takes an eighth of the
#: vectors' own bytes, and a step is looked up in a register (FAISS calls it fast scan).
BITS = 4
#: Vectors from which the steps are learned.
SAMPLE = 65_536


class Index:
    """Every vector is looked at, coarsely; why that, and not a graph or clusters: docs/decisions/0013-index.md.

    Args:
        vectors: float32 [V, width]; the row is the id.
        threads: how many a search may take.
    """

    def __init__(self, vectors: NDArray[np.float32], threads: int) -> None:
        count, width = vectors.shape
        self._threads = threads
        faiss.omp_set_num_threads(threads)
        self._codes = faiss.IndexPQFastScan(width, width, BITS, faiss.METRIC_INNER_PRODUCT)
        sample = np.random.default_rng(0).choice(count, min(count, SAMPLE), replace=False)
        self._codes.train(vectors[np.sort(sample)])
        self._codes.add(vectors)

    def __len__(self) -> int:
        """How many vectors it holds."""
        return int(self._codes.ntotal)

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return int(faiss.serialize_index(self._codes).nbytes)

    def search(self, queries: NDArray[np.float32], count: int) -> Ids:
        """About the best ``count`` ids, at most all, for each query: queries [B, width] -> [B, count].

        -1 stands for an id that was not found: a query that likes all alike (zeros) finds few.
        """
        faiss.omp_set_num_threads(self._threads)  # the setting holds for the thread that makes it
        _, ids = self._codes.search(queries, min(count, len(self)))
        return np.asarray(ids, np.int32)
