"""The model alone: its recommendation (best 100 of the catalogue, scored) in a loop in one process, no queue, no HTTP.

Run as a program: ``python -m benchmarks.serving.limit ARTIFACT SECONDS BATCH XLA(0|1) CORE``; prints rows a second. The
harness runs one for each core at once, each with one TensorFlow thread, and adds them up.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

CANDIDATES = 100


def main(path: Path, seconds: float, batch: int, xla: bool) -> float:
    """Rows a second of one process."""
    from models.quiet import quiet_start

    with quiet_start():
        import tensorflow as tf

        tf.config.list_physical_devices()
    from models.artifact import read_artifact

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    contract = read_artifact(path).contract
    module = tf.saved_model.load(str(path / "saved_model"))
    retrieve, score = module.signatures["retrieve"], module.signatures["score"]

    def recommend(allowed: Any, **scene: Any) -> Any:
        found = retrieve(allowed=allowed, **scene)["items"][:, :CANDIDATES]
        return found, score(candidates=found, **scene)

    scene = {
        "state": tf.ones((batch, *contract.state_shape), contract.state_dtype),
        "lengths": tf.fill([batch], contract.history_length),
        "context": tf.fill([batch, len(contract.fields)], 2),
        "since": tf.ones([batch]),
    }
    allowed = tf.ones((batch if xla else 1, contract.items), tf.bool)
    graph = tf.function(recommend, jit_compile=xla, autograph=False).get_concrete_function(allowed, **scene)
    for _ in range(3):
        graph(allowed, **scene)[0].numpy()  # the first ones pay for what comes once
    rows, began = 0, time.perf_counter()
    while not rows or time.perf_counter() < began + seconds:
        graph(allowed, **scene)[0].numpy()
        rows += batch
    return rows / (time.perf_counter() - began)


if __name__ == "__main__":
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(sys.argv[5])]})
    print(main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"))
