"""The model at run time: load, verify, warm up, run. The only file that imports TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.batching import Batcher
from app.catalogue import ItemContent
from app.errors import StartupError
from app.metrics import Metrics
from app.settings import Settings
from models.artifact import Artifact, open_artifact
from models.contract import FIRST, PAD, UNKNOWN, Contract
from models.encode import Arrays, encode_items
from models.golden import GoldenError, replay
from models.quiet import quiet_start
from models.vocabulary import Ids

with quiet_start():
    import tensorflow as tf

    tf.config.list_physical_devices()  # says which devices it looked for

#: Items beyond the vocabulary that one process keeps a vector for; more stay unknown.
MAX_ADDED = 10_000


class _Retrieve(NamedTuple):
    state: NDArray[Any]
    length: int
    context: Ids
    allowed: NDArray[np.bool_] | None


class _Score(NamedTuple):
    state: NDArray[Any]
    length: int
    context: Ids
    candidates: Ids


class Runtime:
    """A loaded, verified and warm model; implements :class:`app.model.Model`.

    TensorFlow runs on one thread of its own, so calls never block the event loop and never meet each other.
    """

    def __init__(self, artifact: Artifact, module: Any, device: str, settings: Settings, metrics: Metrics) -> None:
        self.artifact = artifact
        self.device = device
        self._module = module
        self._contract = artifact.contract
        self._added: dict[str, int] = {}
        self._everything = np.arange(artifact.contract.items) >= FIRST
        self._signatures = {name: module.signatures[name] for name in self._contract.signatures()}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="tensorflow")
        limits = {"max_batch": settings.max_batch, "queue_limit": settings.queue_limit}
        self._encode = Batcher("encode", self._run_encode, self._executor, metrics, **limits)
        self._retrieve = Batcher("retrieve", self._run_retrieve, self._executor, metrics, **limits)
        self._score = Batcher("score", self._run_score, self._executor, metrics, **limits)
        self._embed = Batcher("embed_items", self._run_embed, self._executor, metrics, **limits)

    @classmethod
    def load(cls, settings: Settings, metrics: Metrics) -> Runtime:
        """Load the configured artifact onto the configured device; takes seconds, call it off the event loop.

        Raises:
            ArtifactError, ContractError: the artifact is missing, damaged or of another contract.
            StartupError: no such device, a signature that is not the contract's, or a golden example that differs.
        """
        artifact = open_artifact(settings.model_root, settings.model_name, settings.model_version)
        device = choose_device(settings.device)
        try:
            module = tf.saved_model.load(str(artifact.saved_model))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise StartupError(
                f"TensorFlow cannot load {artifact.saved_model}: {str(error).splitlines()[0]}"
            ) from error
        verify_signatures(module, artifact.contract)
        runtime = cls(artifact, module, device, settings, metrics)
        runtime._warm_up(settings.max_batch)
        functions = {name: _caller(runtime._call, name) for name in runtime._signatures}
        try:
            replay(artifact.golden(), artifact.contract, artifact.vocabulary, functions)
        except GoldenError as error:
            raise StartupError(f"{artifact.path}: {error}") from error
        return runtime

    def close(self) -> None:
        """Let the running batch end and stop the thread."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def item_id(self, name: str) -> int:
        """The internal id of an item, added ones included; UNKNOWN where there is none."""
        known = self.artifact.vocabulary.item_id(name)
        return known if known != UNKNOWN else self._added.get(name, UNKNOWN)

    def item_name(self, item_id: int) -> str:
        """The external id of an item of the vocabulary. Raises IndexError for ids beyond it."""
        return self.artifact.vocabulary.item_name(item_id)

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """The state, shape [L, width], of one user's inputs, each of shape [L]."""
        return await self._encode.submit(arrays, deadline=deadline)

    async def retrieve(
        self, state: NDArray[Any], length: int, context: Ids, allowed: NDArray[np.bool_] | None, *, deadline: float
    ) -> tuple[Ids, NDArray[Any]]:
        """Internal ids and scores, each of shape [K], best first; ``allowed`` has shape [V], None allows all."""
        return await self._retrieve.submit(_Retrieve(state, length, context, allowed), deadline=deadline)

    async def score(
        self, state: NDArray[Any], length: int, context: Ids, candidates: Ids, *, deadline: float
    ) -> dict[str, NDArray[Any]]:
        """For each target its probability, for each value its expectation, of C candidates: each of shape [C]."""
        return await self._score.submit(_Score(state, length, context, candidates), deadline=deadline)

    async def add_items(self, contents: Mapping[str, ItemContent], *, deadline: float) -> dict[str, int]:
        """Give items outside the vocabulary a vector from their content; returns their internal ids."""
        return await self._embed.submit(contents, deadline=deadline)

    # What runs on the TensorFlow thread.

    def _call(self, name: str, arrays: Arrays) -> Arrays:
        inputs = self._contract.signatures()[name].inputs
        tensors = {key: tf.constant(arrays[key], spec.dtype) for key, spec in inputs.items()}
        return {key: tensor.numpy() for key, tensor in self._signatures[name](**tensors).items()}

    def _run_encode(self, jobs: Sequence[Arrays]) -> list[NDArray[Any]]:
        states: NDArray[Any] = self._call("encode", {key: np.stack([job[key] for job in jobs]) for key in jobs[0]})[
            "state"
        ]
        return list(states)

    def _run_retrieve(self, jobs: Sequence[_Retrieve]) -> list[tuple[Ids, NDArray[Any]]]:
        masks = [self._everything if job.allowed is None else job.allowed for job in jobs]
        shared = all(mask is masks[0] for mask in masks)
        allowed = masks[0][None] if shared else np.stack(masks)  # [1 or B, V]
        found = self._call("retrieve", {**_stack(jobs), "allowed": allowed})
        return list(zip(found["items"], found["scores"], strict=True))

    def _run_score(self, jobs: Sequence[_Score]) -> list[dict[str, NDArray[Any]]]:
        candidates = np.full((len(jobs), max(len(job.candidates) for job in jobs)), PAD, np.int32)
        for row, job in zip(candidates, jobs, strict=True):
            row[: len(job.candidates)] = job.candidates
        scored = self._call("score", {**_stack(jobs), "candidates": candidates})
        return [
            {name: values[i, : len(job.candidates)] for name, values in scored.items()} for i, job in enumerate(jobs)
        ]

    def _run_embed(self, jobs: Sequence[Mapping[str, ItemContent]]) -> list[dict[str, int]]:
        """Append what is new to the module's tables, up to MAX_ADDED items."""
        wanted = {name: content for job in jobs for name, content in job.items() if name not in self._added}
        fresh = dict(islice(wanted.items(), MAX_ADDED - len(self._added)))
        if fresh:
            self._append(fresh)
        return [{name: self._added[name] for name in job if name in self._added} for job in jobs]

    def _append(self, contents: Mapping[str, ItemContent]) -> None:
        rows = encode_items(
            [content.categories for content in contents.values()],
            [content.price for content in contents.values()],
            np.zeros(len(contents)),
            self.artifact.vocabulary,
            self._contract,
        )
        unknown = np.full(len(contents), UNKNOWN, np.int32)
        rows |= self._call("embed_items", {"items": unknown, **rows})
        for name in ("vectors", "categories", "numbers"):
            table = getattr(self._module, name)
            table.assign(tf.concat([table, rows[name]], axis=0))
        first = self._contract.items + len(self._added)
        self._added |= {name: first + place for place, name in enumerate(contents)}

    def _warm_up(self, max_batch: int) -> None:
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
            }
            self._call("encode", history)
            self._call("retrieve", {**scene, "allowed": self._everything[None]})
            self._call("score", {**scene, "candidates": np.zeros((size, 100), np.int32)})


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
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"gpu:0 {name}"


def verify_signatures(module: Any, contract: Contract) -> None:
    """Compare what the SavedModel offers with the contract. Raises StartupError at the first difference."""
    for name, signature in contract.signatures().items():
        if name not in module.signatures:
            raise StartupError(f"The model offers no signature {name!r}; export it again.")
        function = module.signatures[name]
        offered = {
            "inputs": function.structured_input_signature[1],
            "outputs": function.structured_outputs,
        }
        for side, promised in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            if set(offered[side]) != set(promised):
                raise StartupError(
                    f"The model's {name} has the {side} {sorted(offered[side])}, the contract wants "
                    f"{sorted(promised)}; export it again."
                )
            for key, spec in promised.items():
                found = offered[side][key]
                if found.dtype.name != spec.dtype or not found.shape.is_compatible_with(spec.shape):
                    raise StartupError(
                        f"The model's {name} has {key} as {found.dtype.name}{found.shape}, the contract wants "
                        f"{spec.dtype}{spec.shape}; export it again."
                    )


def _caller(call: Callable[[str, Arrays], Arrays], name: str) -> Callable[[Arrays], Arrays]:
    return lambda arrays: call(name, arrays)


def _stack(jobs: Sequence[_Retrieve] | Sequence[_Score]) -> Arrays:
    return {
        "state": np.stack([job.state for job in jobs]),
        "lengths": np.array([job.length for job in jobs], np.int32),
        "context": np.stack([job.context for job in jobs]),
    }
