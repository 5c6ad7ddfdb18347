"""The indexes: each is built once, then searched with one setting after the other."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.runtime.index import Index
from app.runtime.precision import BYTES, HALF, Precision

Floats = NDArray[np.float32]
Search = Callable[[Floats], NDArray[Any]]

CENTROIDS = 1_024


@dataclass(frozen=True, slots=True)
class Built:
    """An index: its bytes, and ways to search it, by name; a search returns ids [B, count], -1 for none."""

    bytes: int
    searches: Iterator[tuple[str, Search]]


def scan(width_of_part: int) -> Callable[[Floats], Built]:
    """Product quantisation with 4 bits for so many numbers, over everything."""

    def build(vectors: Floats) -> Built:
        import faiss

        width = vectors.shape[1]
        index = faiss.IndexPQFastScan(width, width // width_of_part, 4, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[:65_536])
        index.add(vectors)
        return Built(_bytes(index), ((f"{n} rescored", _first(index, n)) for n in (500, 1_000, 2_000)))

    return build


def clusters(vectors: Floats) -> Built:
    """The same codes in the cells of a coarse quantiser, of which only the nearest are looked at."""
    import faiss

    width = vectors.shape[1]
    coarse = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFPQFastScan(coarse, width, CENTROIDS, width, 4, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors[:131_072])
    index.add(vectors)

    def searches() -> Iterator[tuple[str, Search]]:
        for cells in (16, 64, 256):
            index.nprobe = cells
            yield f"{cells} of {CENTROIDS} cells, 500 rescored", _first(index, 500)

    return Built(_bytes(index), searches())


def graph(vectors: Floats) -> Built:
    """HNSW of hnswlib, float32."""
    import hnswlib

    index = hnswlib.Index("ip", vectors.shape[1])
    index.init_index(len(vectors), M=16, ef_construction=100)
    index.set_num_threads(1)
    index.add_items(vectors)

    def searches() -> Iterator[tuple[str, Search]]:
        for ef in (200, 800):
            index.set_ef(ef)
            yield f"ef {ef}", lambda queries: index.knn_query(queries, 200, num_threads=1)[0]

    with tempfile.NamedTemporaryFile() as file:
        index.save_index(file.name)
        return Built(Path(file.name).stat().st_size, searches())


def small_graph(vectors: Floats) -> Built:
    """HNSW of usearch over int8; it wants unit lengths, so a column makes all lengths the same (MIPS to cosine)."""
    from usearch.index import Index

    squares = (vectors**2).sum(axis=1)
    column = np.sqrt(squares.max() - squares)[:, None]
    same = np.concatenate([vectors, column], axis=1)
    index = Index(ndim=same.shape[1], metric="cos", dtype="i8", connectivity=16, expansion_add=100)
    index.add(np.arange(len(same)), same, threads=1)

    def searches() -> Iterator[tuple[str, Search]]:
        for ef in (500, 2_000):
            index.expansion_search = ef
            yield f"ef {ef}, 500 rescored", lambda queries: _keys(index, queries)

    return Built(int(index.serialized_length), searches())


def _keys(index: Any, queries: Floats) -> NDArray[Any]:
    same = np.concatenate([queries, np.zeros((len(queries), 1), np.float32)], axis=1)
    return np.atleast_2d(np.asarray(index.search(same, 500, threads=1).keys)).astype(np.int64)


def everything(vectors: Floats) -> Built:
    """The exact way."""
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return Built(vectors.nbytes, iter([("all scored", _first(index, 100))]))


def _first(index: Any, count: int) -> Search:
    return lambda queries: np.asarray(index.search(queries, count)[1])


def _bytes(index: Any) -> int:
    import faiss

    return int(faiss.serialize_index(index).nbytes)


def ours(precision: Precision) -> Callable[[Floats], Built]:
    """What the service uses: all in few bits, the best of each block."""

    def build(vectors: Floats) -> Built:
        index = Index(vectors, precision)
        return Built(index.bytes, ((f"the blocks of the best {n}", _blocks(index, n)) for n in (110, 144)))

    return build


def _blocks(index: Any, count: int) -> Search:
    return lambda queries: np.asarray(index.search(queries, count)[0])


#: By name the library that a method needs, and how its index is built; the service needs none of them.
RIVALS: dict[str, tuple[str, Callable[[Floats], Built]]] = {
    "exact (FAISS flat)": ("faiss", everything),
    "FAISS fast scan, 4 bits a number": ("faiss", scan(1)),
    "FAISS fast scan, 4 bits for two": ("faiss", scan(2)),
    "FAISS IVF and fast scan": ("faiss", clusters),
    "usearch, HNSW over int8": ("usearch", small_graph),
    "hnswlib, HNSW": ("hnswlib", graph),
}
METHODS: dict[str, Callable[[Floats], Built]] = {
    "all at a byte a number (ours)": ours(BYTES),
    "all at half precision (ours where bytes are slow)": ours(HALF),
    **{name: build for name, (library, build) in RIVALS.items() if importlib.util.find_spec(library)},
}
