"""On what a training step runs and how: XLA, and one device or several, as configured and as found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from models.encode import Arrays

Step = Callable[[dict[str, Any]], dict[str, Any]]

#: Steps after which XLA compiles a shape of batch. That takes some 20 seconds and saves some 50 ms a step, so that a
#: shape that is seldom never pays; the number does not depend on the clock, for the results do a little on the way.
HOT = 200


class Accelerator:
    """Runs training steps.

    Args:
        xla: compile the step for every shape of batch that has come :data:`HOT` times.
        devices: how many devices of the kind found (GPUs, else CPUs) share a batch; 0 takes all GPUs, or one CPU.

    Raises:
        ValueError: there are fewer devices than asked for.
    """

    def __init__(self, *, xla: bool = True, devices: int = 0) -> None:
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        kind = found[0].device_type
        count = devices or (len(found) if kind == "GPU" else 1)
        if count > len(found):
            raise ValueError(f"The training setting devices is {count}, but only {len(found)} {kind} can be seen.")
        names = [device.name for device in found[:count]]
        self.xla = xla
        self.strategy = tf.distribute.MirroredStrategy(names) if count > 1 else None

    def scope(self) -> AbstractContextManager[Any]:
        """Variables made in here live on every device that trains."""
        return self.strategy.scope() if self.strategy else nullcontext()

    def step(self, function: Step) -> Callable[[Arrays], dict[str, Any]]:
        """A function of a batch to its scalar results, compiled; several devices take a share of the rows each."""
        if self.strategy is None:
            plain, compiled = (tf.function(function, jit_compile=xla, autograph=False) for xla in (False, True))
            traced: dict[tuple[tuple[int, ...], ...], Any] = {}  # by shapes, of which there are few
            met: Counter[tuple[tuple[int, ...], ...]] = Counter()

            def alone(batch: Arrays) -> dict[str, Any]:
                tensors = {name: tf.constant(array) for name, array in batch.items()}
                shapes = tuple(array.shape for array in batch.values())
                hot = self.xla and met[shapes] == HOT
                if hot or shapes not in traced:
                    traced[shapes] = (compiled if hot else plain).get_concrete_function(tensors)
                met[shapes] += 1
                return dict(traced[shapes](tensors))

            return alone
        strategy = self.strategy

        @tf.function  # type: ignore[untyped-decorator]
        def together(shares: dict[str, Any]) -> dict[str, Any]:
            results = strategy.run(function, args=(shares,))
            return {name: strategy.reduce("MEAN", value, axis=None) for name, value in results.items()}

        def run(batch: Arrays) -> dict[str, Any]:
            shares = split_rows(batch, strategy.num_replicas_in_sync)

            def share(context: Any) -> dict[str, Any]:
                return {name: tf.constant(a) for name, a in shares[context.replica_id_in_sync_group].items()}

            together_on = strategy.experimental_distribute_values_from_function
            distributed = {name: together_on(lambda context, name=name: share(context)[name]) for name in batch}
            return dict(together(distributed))

        return run


def split_rows(batch: Arrays, shares: int) -> list[Arrays]:
    """A batch of windows as ``shares`` batches of equally many rows; leftover rows are left out."""
    rows = len(batch["items"]) // shares
    moves = batch["moves"].shape[1]
    parts = []
    for number in range(shares):
        part = {name: array[number * rows : (number + 1) * rows] for name, array in batch.items() if name != "picked"}
        picked = batch["picked"]
        inside = (picked >= number * rows * moves) & (picked < (number + 1) * rows * moves)
        room = max(int(len(picked) / shares * 1.25), 1)
        mine = picked[inside][:room] - number * rows * moves
        part["picked"] = np.pad(mine, (0, room - len(mine)), constant_values=-1)
        parts.append(part)
    return parts
