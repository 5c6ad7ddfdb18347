"""The functions of a loaded model, numpy in and numpy out, in the form in which they are fastest."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from app.batching import everyone
from app.runtime.batches import Compiled, Tensors, longer
from app.runtime.compiled import in_turns
from app.runtime.sizes import Sizes, for_answers, for_histories
from models.contract import PAD, Contract, TensorSpec
from models.encode import Arrays
from models.matches import unpack_tail
from models.topk import by_vector, top_k


class Functions:
    """What requests ask of the model, by name: the signatures of the artifact, and ``recommend``.

    ``recommend`` is ``retrieve`` and ``score`` in one graph: the candidates never leave it. What every request needs
    (``encode``, ``recommend``; where an index retrieves, ``query`` and the scores) is compiled by XLA, which wants to
    know all sizes: powers of two, each compiled in the warm-up, so that nothing compiles under traffic. Batches are
    made to fill them (:class:`Sizes`) and padded to the next. Everything else runs as it was saved, at any size.

    Args:
        module: the loaded SavedModel.
        candidates: items that ``recommend`` scores for each row.
        max_batch: most rows of a batch.
        places: length of the masks of what is allowed: the ids of the vocabulary, then those of newcomers.
        xla: whether to compile; ``indexed``: whether an index retrieves, so that ``recommend_of`` is what is asked.
    """

    def __init__(
        self,
        module: Any,
        contract: Contract,
        candidates: int,
        max_batch: int,
        places: int,
        *,
        xla: bool,
        indexed: bool,
    ) -> None:
        self._module = module  # a function alone does not keep its variables alive
        self._contract = contract
        self._places = places
        self._signatures = {n: module.signatures[n] for n in contract.signatures() if n in module.signatures}
        self._sizes, self._history_sizes = for_answers(max_batch), for_histories(max_batch)
        self._candidates = min(candidates, contract.retrieval_size)
        self._tables = {name: getattr(module, name) for name in ("vectors", "categories", "numbers")}
        self._vectors = None
        if "query" in self._signatures and not indexed:
            # Those that are searched, and no others: to cut them out of the table each time would be to copy them.
            room = places - contract.items
            self._vectors = tf.Variable(tf.pad(module.vectors[: contract.items], [[0, room], [0, 0]]), trainable=False)
        self._inputs = {name: signature.inputs for name, signature in contract.signatures().items()}
        self._xla = xla
        self._indexed = indexed
        hot = (("encode", "query") if indexed else ("encode",)) if xla else ()
        self._hot = {name: self._compiled(name, self._signatures[name]) for name in hot}
        best = partial(self._recommend, self._candidates)
        self._few = self._compiled("retrieve", best) if xla and not indexed else self._traced("retrieve", best)
        self._all = self._traced("retrieve", partial(self._recommend, contract.retrieval_size))
        if indexed:
            pairs = TensorSpec("float32", (None, None))
            self._inputs["best_of"] = {**self._inputs["score"], "query": pairs, "bonus": pairs}
            score = self._signatures["score"]
            few = tf.function(score, jit_compile=True, autograph=False) if xla else score
            self._best_of = {
                count: self._traced("best_of", partial(self._recommend_of, count, function))
                for count, function in ((contract.retrieval_size, score), (self._candidates, few))
            }

    def __contains__(self, name: str) -> bool:
        """Whether the artifact has a signature."""
        return name in self._signatures

    def __call__(self, name: str, arrays: Arrays) -> Arrays:
        """The outputs of a signature for a batch."""
        if name in self._hot:
            return self._hot[name](arrays)
        return _run(self._signatures[name], self._cast(name, arrays))

    def recommend(self, arrays: Arrays, count: int) -> Arrays:
        """Inputs of ``retrieve``; of the best items at least ``count``, as far as the model retrieves so many.

        Returns ``items`` and ``scores`` [B, C], best first, -inf for what is not allowed, and ``score``'s outputs of
        the same items.
        """
        return (self._few if count <= self._candidates else self._all)(arrays)

    def most(self, name: str) -> int:
        """Most rows of a batch for a signature."""
        return self._sizes_of(name).most

    def fill(self, name: str) -> Callable[[int], int]:
        """Says of so many that wait for a signature how many of them to compute together."""
        return self._sizes_of(name).fill if self._xla else everyone

    def reach(self, count: int) -> int:
        """How many items are recommended where so many are wanted: sizes are fixed, so that no graph is made anew."""
        return self._candidates if count <= self._candidates else self._contract.retrieval_size

    def recommend_of(self, arrays: Arrays, count: int) -> Arrays:
        """What :meth:`recommend` returns, with the best of ``candidates`` [B, C] instead of the best of the catalogue.

        Beside them are ``score``'s other inputs, the ``query`` [B, width], and what the history adds to each candidate,
        ``bonus`` [B, C]. PAD is no candidate; C is at least :meth:`reach`.
        """
        function = self._best_of[self.reach(count)]
        return self._sized(function, arrays) if self._xla and count <= self._candidates else function(arrays)

    def vectors(self, rows: int) -> NDArray[np.float32]:
        """The vectors of the first ids, [rows, width]."""
        return np.asarray(self._tables["vectors"][:rows].numpy())

    def by_signature(self) -> dict[str, Callable[[Arrays], Arrays]]:
        """Functions to replay golden examples with: those that requests use."""
        plain = {name: partial(self, name) for name in ("encode", "score")}
        return {**plain, "retrieve": self._recommend_golden}

    def _recommend_golden(self, arrays: Arrays) -> Arrays:
        """As :meth:`recommend`, with the mask of an example, which knows no newcomers."""
        others = self._places - arrays["allowed"].shape[1]
        return self.recommend({**arrays, "allowed": np.pad(arrays["allowed"], ((0, 0), (0, others)))}, 1)

    def grow(self, rows: int) -> None:
        """Make the tables of the catalogue longer by so many rows, once, before anything is compiled."""
        for table in self._tables.values():
            table.assign(tf.pad(table, [[0, rows], [0, 0]]))

    def seat(self, first: int, rows: Arrays) -> None:
        """Write rows of the catalogue's tables, from ``first`` on."""
        seats = slice(first, first + len(rows["vectors"]))
        for name, table in self._tables.items():
            table[seats].assign(rows[name])  # in place; scatter_update would make every later read a copy
        if self._vectors is not None and (searched := rows["vectors"][: max(self._places - first, 0)]).size:
            self._vectors[first : first + len(searched)].assign(searched)

    def warm_up(self) -> None:
        """Run everything once in every size that it is compiled for, so that no request pays for a first time."""
        contract, ends = self._contract, (1, self._sizes.most)
        if self._xla:
            in_turns(sorted({*self._sizes, *self._history_sizes}), self._run_hot)
        else:
            for size in ends:
                self._run_hot(size)
        for size in ends:
            scene = self._scene(size)
            for count in (1, contract.retrieval_size):
                self.recommend({**scene, "allowed": np.ones((1, self._places), np.bool_)}, count)
            if self._indexed:
                self._run_recommend_of(scene, contract.retrieval_size)
            self("score", {**scene, "candidates": np.zeros((size, self._candidates), np.int32)})
        one = np.zeros(1, np.int32)
        empty = {
            "categories": np.zeros((1, len(contract.category_sizes)), np.int32),
            "numbers": np.zeros((1, 3), np.float32),
        }
        self.seat(contract.items, empty | self("embed_items", {"items": one, **empty}))
        if "explain" in self:
            inputs = {**self._history(1), **self._scene(1), "lengths": np.array([contract.history_length], np.int32)}
            self("explain", {**inputs, "candidates": np.zeros((1, 2), np.int32)})

    def _run_hot(self, size: int) -> None:
        """Run what every request needs for so many rows, as far as there are batches of so many."""
        if size in self._history_sizes:
            self("encode", self._history(size))
        if size not in self._sizes:
            return
        if self._indexed:
            self._run_recommend_of(self._scene(size), 1)
        else:
            self.recommend({**self._scene(size), "allowed": np.ones((1, self._places), np.bool_)}, 1)

    def _run_recommend_of(self, scene: Arrays, count: int) -> None:
        shape = (len(scene["lengths"]), self._contract.retrieval_size)
        room = {name: np.zeros(shape) for name in ("candidates", "bonus")}
        self.recommend_of(scene | self("query", scene) | room, count)

    def _history(self, size: int) -> Arrays:
        """Inputs of ``encode``."""
        inputs = self._inputs["encode"].items()
        return {key: np.zeros([size if n is None else n for n in spec.shape], spec.dtype) for key, spec in inputs}

    def _scene(self, size: int) -> Arrays:
        """What ``recommend`` and ``score`` have in common of their inputs."""
        return {
            "state": np.zeros((size, *self._contract.state_shape), self._contract.state_dtype),
            "lengths": np.zeros(size, np.int32),
            "context": np.zeros((size, len(self._contract.fields)), np.int32),
            "since": np.zeros(size, np.float32),
        }

    def _recommend(self, count: int, **tensors: Any) -> Tensors:
        scene = {name: tensor for name, tensor in tensors.items() if name != "allowed"}
        if self._vectors is not None:
            found = self._signatures["query"](**scene)
            scores = by_vector(found["query"], self._vectors, unpack_tail(scene["state"])[0], found["bonus"])
            scores, items = top_k(tf.where(tensors["allowed"], scores, -inf), count, self._places)
        elif "relevance" in self._signatures:
            scores, items = top_k(self._signatures["relevance"](**tensors)["scores"], count, self._places)
        else:  # an older artifact finds as many as it can
            found = self._signatures["retrieve"](**tensors)
            scores, items = found["scores"][:, :count], found["items"][:, :count]
        return {"items": items, "scores": scores, **self._signatures["score"](**scene, candidates=items)}

    def _recommend_of(
        self, count: int, score: Callable[..., Tensors], candidates: Any, query: Any, bonus: Any, **scene: Any
    ) -> Tensors:
        vectors = tf.gather(self._tables["vectors"], candidates)  # [B, C, width]
        scores = tf.linalg.matvec(vectors, query) + bonus
        best = tf.math.top_k(tf.where(candidates == PAD, -inf, scores), count)
        items = tf.gather(candidates, best.indices, batch_dims=1)
        return {"items": items, "scores": best.values, **score(**scene, candidates=items)}

    def _traced(self, name: str, function: Callable[..., Tensors]) -> Callable[[Arrays], Arrays]:
        """One graph for all sizes of a batch, of a function with the inputs of a signature."""
        specs = {key: tf.TensorSpec(spec.shape, spec.dtype, key) for key, spec in self._inputs[name].items()}
        graph = tf.function(function, autograph=False).get_concrete_function(**specs)
        return lambda arrays: _run(graph, self._cast(name, arrays))

    def _compiled(self, name: str, function: Callable[..., Tensors]) -> Compiled:
        """A graph for each of the sizes of a batch."""
        return Compiled(function, self._inputs[name], self._sizes_of(name), self._places)

    def _sizes_of(self, name: str) -> Sizes:
        return self._history_sizes if name == "encode" else self._sizes

    def _cast(self, name: str, arrays: Arrays) -> Arrays:
        """The inputs of a signature, in its dtypes."""
        return {key: np.ascontiguousarray(arrays[key], spec.dtype) for key, spec in self._inputs[name].items()}

    def _sized(self, function: Callable[[Arrays], Arrays], arrays: Arrays) -> Arrays:
        """The outputs for a batch, padded to the next size and cut again: a part of the function is compiled."""
        rows = len(next(iter(arrays.values())))
        size = self._sizes.above(rows)
        outputs = function({key: longer(array, size) for key, array in arrays.items()})
        return {key: array[:rows] for key, array in outputs.items()}


def _run(function: Callable[..., Tensors], arrays: Arrays) -> Arrays:
    tensors = {name: tf.constant(array) for name, array in arrays.items()}
    return {name: tensor.numpy() for name, tensor in function(**tensors).items()}
