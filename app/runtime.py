"""The model at run time: load, verify, warm up, run. The only file that imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import jobs
from app.agreement import verify_reach, verify_signatures
from app.batching import Batcher
from app.catalogue import ItemContent
from app.errors import StartupError
from app.metrics import Metrics
from app.settings import Settings
from models.artifact import Artifact, open_artifact
from models.contract import FIRST, UNKNOWN
from models.encode import Arrays, Moment, encode_items
from models.golden import GoldenError, replay
from models.quiet import quiet_start
from models.vocabulary import Ids

with quiet_start():
    import tensorflow as tf

    tf.config.list_physical_devices()  # says which devices it looked for

#: Candidates of one request that are scored at once; a longer list takes turns with the other requests.
TURN = 1024
#: Explanations that may wait; each takes tens of milliseconds, so more would not be there in time.
EXPLANATIONS = 32


class Runtime:
    """A loaded, verified and warm model; implements :class:`app.model.Model`.

    TensorFlow runs on one thread of its own, so calls never block the event loop and never meet each other.
    Explanations have another, one at a time, so that nobody's prediction waits for them.
    """

    def __init__(self, artifact: Artifact, module: Any, device: str, settings: Settings, metrics: Metrics) -> None:
        self.artifact = artifact
        self.device = device
        self._module = module
        self._contract = artifact.contract
        self._everything = np.arange(artifact.contract.items) >= FIRST
        self._signatures = {n: module.signatures[n] for n in self._contract.signatures() if n in module.signatures}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tensorflow")
        size, limit = settings.max_batch, settings.queue_limit
        self._encode = Batcher("encode", self._run_encode, self._executor, metrics, max_batch=size, queue_limit=limit)
        self._retrieve = Batcher(
            "retrieve", self._run_retrieve, self._executor, metrics, max_batch=size, queue_limit=limit
        )
        rows = max(TURN, size * settings.candidates)
        self._score = Batcher(
            "score",
            self._run_score,
            self._executor,
            metrics,
            max_batch=size,
            queue_limit=limit,
            width=lambda job: len(job.candidates),
            max_rows=rows,
        )
        self._explaining = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._explain = Batcher(
            "explain", self._run_explain, self._explaining, metrics, max_batch=1, queue_limit=EXPLANATIONS
        )
        self._tables = {name: getattr(module, name) for name in ("vectors", "categories", "numbers")}
        self._explain_seats = artifact.contract.items + rows
        for table in self._tables.values():  # a seat for each newcomer that a batch can have, and an explanation
            table.assign(tf.pad(table, [[0, rows + TURN], [0, 0]]))

    @classmethod
    def load(cls, settings: Settings, metrics: Metrics) -> Runtime:
        """Load the configured artifact onto the configured device; takes seconds, call it off the event loop.

        Raises:
            ArtifactError, ContractError: the artifact is missing, damaged or of another contract.
            StartupError: a setting asks for more than the model retrieves, no such device, a signature that is not the
                contract's, or a golden example that differs.
        """
        artifact = open_artifact(settings.model_root, settings.model_name, settings.model_version)
        verify_reach(settings, artifact.contract)
        device = choose_device(settings.device)
        try:
            module = tf.saved_model.load(str(artifact.saved_model))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise StartupError(
                f"TensorFlow cannot load {artifact.saved_model}: {str(error).splitlines()[0]}"
            ) from error
        verify_signatures(module, artifact.contract)
        runtime = cls(artifact, module, device, settings, metrics)
        runtime._warm_up(settings.max_batch, settings.candidates)
        functions = {name: _caller(runtime._call, name) for name in runtime._signatures}
        try:
            replay(artifact.golden(), artifact.contract, artifact.vocabulary, functions)
        except GoldenError as error:
            raise StartupError(f"{artifact.path}: {error}") from error
        return runtime

    def close(self) -> None:
        """Let what runs end and stop the threads."""
        for executor in (self._executor, self._explaining):
            executor.shutdown(wait=True, cancel_futures=True)

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """The state, shape [L, width], of one user's inputs, each of shape [L]."""
        return await self._encode.submit(arrays, deadline=deadline)

    async def retrieve(
        self, state: NDArray[Any], length: int, moment: Moment, allowed: NDArray[np.bool_] | None, *, deadline: float
    ) -> tuple[Ids, NDArray[Any]]:
        """Internal ids and scores, each of shape [K], best first; ``allowed`` has shape [V], None allows all."""
        return await self._retrieve.submit(jobs.Retrieve(state, length, moment, allowed), deadline=deadline)

    async def score(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> dict[str, NDArray[Any]]:
        """For each target its probability, for each value its expectation, of C candidates: each of shape [C].

        Candidates are internal ids; V + i, beyond the vocabulary, stands for ``newcomers[i]``, judged by its content.
        """
        turns = [
            await self._score.submit(
                jobs.Score(state, length, moment, candidates[start : start + TURN], newcomers), deadline=deadline
            )
            for start in range(0, max(1, len(candidates)), TURN)
        ]
        return {name: np.concatenate([turn[name] for turn in turns]) for name in turns[0]}

    @property
    def explains(self) -> bool:
        """Whether the artifact can explain itself; one that was exported before there was such a thing cannot."""
        return "explain" in self._signatures

    async def explain(
        self,
        arrays: Arrays,
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> Arrays:
        """What moved the predictions of at most TURN candidates; see :meth:`app.model.Model.explain`."""
        job = jobs.Explain(arrays, length, moment, candidates, newcomers)
        return await self._explain.submit(job, deadline=deadline)

    # What runs on the TensorFlow threads.

    def _call(self, name: str, arrays: Arrays) -> Arrays:
        inputs = self._contract.signatures()[name].inputs
        tensors = {key: tf.constant(arrays[key], spec.dtype) for key, spec in inputs.items()}
        return {key: tensor.numpy() for key, tensor in self._signatures[name](**tensors).items()}

    def _run_encode(self, batch: Sequence[Arrays]) -> list[NDArray[Any]]:
        return list(self._call("encode", {key: np.stack([job[key] for job in batch]) for key in batch[0]})["state"])

    def _run_retrieve(self, batch: Sequence[jobs.Retrieve]) -> list[tuple[Ids, NDArray[Any]]]:
        found = self._call("retrieve", {**jobs.stacked(batch), "allowed": jobs.masks(batch, self._everything)})
        return list(zip(found["items"], found["scores"], strict=True))

    def _run_score(self, batch: Sequence[jobs.Score]) -> list[Arrays]:
        candidates, guests = jobs.seated(batch, self._contract.items, self._contract.items)
        if guests:
            self._seat(guests, self._contract.items)
        return jobs.unpadded(self._call("score", {**jobs.stacked(batch), "candidates": candidates}), batch)

    def _run_explain(self, batch: Sequence[jobs.Explain]) -> list[Arrays]:
        candidates, guests = jobs.seated(batch, self._contract.items, self._explain_seats)
        if guests:
            self._seat(guests, self._explain_seats)
        inputs = {name: np.stack([job.arrays[name] for job in batch]) for name in batch[0].arrays}
        found = self._call("explain", inputs | jobs.asked(batch) | {"candidates": candidates})
        return [{name: part[row] for name, part in found.items()} for row in range(len(batch))]

    def _seat(self, guests: Sequence[ItemContent], first: int) -> None:
        """Write items into the tables' rows from ``first`` on, where they stay until another batch takes the seats.

        Nothing is kept: computing vectors takes about a millisecond, and so none is ever that of an older content.
        """
        rows = encode_items(
            [content.categories for content in guests],
            [content.price for content in guests],
            np.zeros(len(guests)),
            self.artifact.vocabulary,
            self._contract,
        )
        unknown = np.full(len(guests), UNKNOWN, np.int32)
        rows |= self._call("embed_items", {"items": unknown, **rows})
        seats = slice(first, first + len(guests))
        for name, table in self._tables.items():
            table[seats].assign(rows[name])  # in place; scatter_update would make every later read a copy

    def _warm_up(self, max_batch: int, candidates: int) -> None:
        """Run every function at the smallest and the largest batch, so that no request pays for a first time."""
        contract = self._contract
        length, width = contract.state_shape
        for size in {1, max_batch}:
            state = np.zeros((size, length, width), contract.state_dtype)
            history = {
                key: np.zeros((size, contract.history_length), spec.dtype)
                for key, spec in contract.signatures()["encode"].inputs.items()
            }
            scene = {
                "state": state,
                "lengths": np.zeros(size, np.int32),
                "context": np.zeros((size, len(contract.fields)), np.int32),
                "since": np.zeros(size, np.float32),
            }
            self._call("encode", history)
            self._call("retrieve", {**scene, "allowed": self._everything[None]})
            self._call("score", {**scene, "candidates": np.zeros((size, candidates), np.int32)})
        self._seat([ItemContent(None, (), None, available=True)], contract.items)
        if self.explains:
            nobody = {key: array[0] for key, array in history.items()}
            moment, asked = Moment(np.zeros(len(contract.fields), np.int32), 0.0), np.zeros(2, np.int32)
            self._run_explain([jobs.Explain(nobody, contract.history_length, moment, asked, ())])


def choose_device(wanted: str) -> str:
    """Make the GPU or the CPU the device of this process and say which it is, e.g. ``gpu:0 NVIDIA H100`` or ``cpu``.

    GPU memory is allocated as needed. Raises StartupError where a GPU is asked for and TensorFlow finds none.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "gpu" and not gpus:
        raise StartupError(
            "FORETELL_DEVICE is gpu, but TensorFlow finds no GPU: install the `gpu` extra and the driver, "
            "or set FORETELL_DEVICE=auto."
        )
    if wanted == "cpu" or not gpus:
        tf.config.set_visible_devices([], "GPU")
        return "cpu"
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # TF32, TensorFlow's default from Ampere on, keeps 10 of a float32's 23 bits in matrix products. But golden examples
    # are recorded on a CPU and must come out within 1e-4, and what is served must be what was evaluated.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"gpu:0 {name}"


def _caller(call: Callable[[str, Arrays], Arrays], name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: call(name, arrays)
