"""Which index: ``make bench-retrieval``, or ``python -m benchmarks.retrieval --items 1000000``.

One thread searches a catalogue by inner product; what an index finds is rescored with the vectors themselves, and the
time of that counts. FAISS, hnswlib and usearch are measured where they are installed (pip install faiss-cpu hnswlib
usearch). Writes results.json and results.md here.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from benchmarks.retrieval.data import Data, Floats, clustered, untrained
from benchmarks.retrieval.methods import METHODS, Search

HERE = Path(__file__).parent
WANTED = 100
BATCHES = (1, 32)
#: Seconds that a search is repeated for.
SECONDS = 2.0


def main(arguments: Sequence[str]) -> None:
    """Measure every method on both kinds of vectors."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="of the catalogue (default: 1000000)")
    items = parser.parse_args(arguments).items
    _one_thread()
    hard = untrained(items)
    found: dict[str, Any] = {"machine": f"one thread, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}", "rows": []}
    for data in (hard, clustered(items, hard.vectors.shape[1])):
        best = np.concatenate([_best(data, row) for row in range(0, len(data.queries), 32)])
        for name in METHODS:
            for row in measured(name, data, best):
                print(row, flush=True)
                found["rows"].append(row)
                found["shape"] = list(data.vectors.shape)
                (HERE / "results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(markdown(found), encoding="utf-8")


def _one_thread() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def measured(name: str, data: Data, best: NDArray[Any]) -> Iterator[dict[str, Any]]:
    """Figures of each way to search one index."""
    began = time.perf_counter()
    built = METHODS[name](data.vectors)
    seconds = time.perf_counter() - began
    for setting, search in built.searches:
        ids = np.concatenate(
            [rescored(search, data.vectors, data.queries[i : i + 32]) for i in range(0, len(best), 32)]
        )
        hits = [len(np.intersect1d(one, other)) / WANTED for one, other in zip(ids, best, strict=True)]
        yield {
            "vectors": data.name,
            "index": name,
            "search": setting,
            "recall": round(float(np.mean(hits)), 4),
            "ms": {str(n): round(milliseconds(search, data, n), 3) for n in BATCHES},
            "build_seconds": round(seconds, 1),
            "bytes_over_raw": round(built.bytes / data.vectors.nbytes, 3),
        }


def rescored(search: Search, vectors: Floats, queries: Floats) -> NDArray[Any]:
    """The best WANTED of what a search finds [B, count], by their exact scores: [B, WANTED]."""
    ids = search(queries)
    scores = np.matmul(vectors[ids], queries[:, :, None])[..., 0]
    order = np.argpartition(np.where(ids < 0, -np.inf, scores), -WANTED, axis=1)[:, -WANTED:]
    return np.take_along_axis(ids, order, axis=1)


def milliseconds(search: Search, data: Data, batch: int) -> float:
    """Of a query, in batches of so many: the fastest of three rounds."""
    rounds = []
    for _ in range(3):
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + SECONDS / 3:
            start = done % (len(data.queries) - batch + 1)
            rescored(search, data.vectors, data.queries[start : start + batch])
            done += batch
        rounds.append((time.perf_counter() - began) / done)
    return 1000 * min(rounds)


def _best(data: Data, row: int) -> NDArray[Any]:
    scores = data.queries[row : row + 32] @ data.vectors.T
    return np.argpartition(scores, -WANTED, axis=1)[:, -WANTED:]


def markdown(found: dict[str, Any]) -> str:
    """The page."""
    items, width = found["shape"]
    sizes = f"{items:,} vectors of {width} numbers, inner product, the best {WANTED}"
    lines = [
        "# Which index retrieves",
        "",
        f"`make bench-retrieval`; {sizes}; {found['machine']}.",
        "The time of a query includes the exact scores of what was found.",
    ]
    for name in dict.fromkeys(row["vectors"] for row in found["rows"]):
        lines += ["", f"Vectors: {name}.", ""]
        lines += ["| index | search | recall@100 | ms a query, alone | in batches of 32 | built in | bytes over raw |"]
        lines += ["|---|---|---|---|---|---|---|"]
        lines += [_line(row) for row in found["rows"] if row["vectors"] == name]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any]) -> str:
    return (
        f"| {row['index']} | {row['search']} | {row['recall']:.3f} | {row['ms']['1']:.2f} | {row['ms']['32']:.2f} "
        f"| {row['build_seconds']:.0f} s | {row['bytes_over_raw']:.3f} |"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
