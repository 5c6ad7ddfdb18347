"""What a model costs: parameters, arithmetic and time of one request, bytes on disk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from models.artifact import Artifact

#: A request encodes one history, searches the catalogue and scores so many candidates.
CANDIDATES = 100
#: Calls that are timed, after one that is not.
CALLS = 15


def cost(artifact: Artifact) -> dict[str, dict[str, Any]]:
    """``flops`` and ``milliseconds`` (median, this machine, batch of one) of each function of a request.

    FLOPs are those that TensorFlow's profiler counts in the frozen graph: products and element-wise arithmetic; gathers
    and sorting are none. A function with a loop cannot be counted: None.
    """
    module = tf.saved_model.load(str(artifact.saved_model))
    state = module.signatures["encode"](**_inputs(artifact, "encode"))["state"]
    found: dict[str, dict[str, Any]] = {}
    for name in ("encode", "retrieve", "score"):
        function = module.signatures[name]
        inputs = _inputs(artifact, name) | ({} if name == "encode" else {"state": state})
        found[name] = {"flops": _flops(function, inputs), "milliseconds": _milliseconds(function, inputs)}
    return found


def bytes_of(artifact: Artifact) -> int:
    """Size of the artifact's files."""
    return sum(path.stat().st_size for path in artifact.path.rglob("*") if path.is_file())


def _inputs(artifact: Artifact, name: str) -> dict[str, Any]:
    contract, rng = artifact.contract, np.random.default_rng(0)
    free = {"allowed": contract.items, "candidates": CANDIDATES}
    inputs = {}
    for key, spec in contract.signatures()[name].inputs.items():
        shape = [1 if size is None else size for size in spec.shape]
        shape[1:] = [free[key]] if key in free else shape[1:]
        values = rng.integers(1, 3, shape)  # small ids, which every vocabulary has
        inputs[key] = tf.constant(np.full(shape, contract.history_length) if key == "lengths" else values, spec.dtype)
    return inputs


def _flops(function: Any, inputs: dict[str, Any]) -> int | None:
    specs = {key: tf.TensorSpec(value.shape, value.dtype, key) for key, value in inputs.items()}
    whole = tf.function(lambda **given: function(**given)).get_concrete_function(**specs)
    if any(node.op.endswith("While") for node in _nodes(whole.graph.as_graph_def())):
        return None  # the profiler would count what is inside a loop once, or not at all
    frozen = convert_variables_to_constants_v2(whole, aggressive_inlining=True).graph.as_graph_def()
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen, name="")
        options = builder(builder.float_operation()).with_empty_output().build()
        with _quiet():
            return int(tf.compat.v1.profiler.profile(graph, options=options).total_float_ops)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the profiler, which has no successor, was made for TensorFlow 1."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logger.setLevel(level)


def _nodes(graph: Any) -> Iterator[Any]:
    """The nodes of a graph and of the functions that it calls."""
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _milliseconds(function: Any, inputs: dict[str, Any]) -> float:
    function(**inputs)
    times = []
    for _ in range(CALLS):
        started = time.perf_counter()
        function(**inputs)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)
