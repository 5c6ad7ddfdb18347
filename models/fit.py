"""The training loop: one optimiser, one schedule, early stopping; for pretraining, fine-tuning and every protocol.

The learning rate warms up, stays, and cools down to nothing when no better validation loss comes or the time is nearly
over (warm-up, stable, decay: Hu et al. 2024). What is checked, and kept where its validation loss is best, are not the
weights of the last step but their moving average over about an epoch (Polyak & Juditsky 1992), or over the last third
of the steps so far where that is less (Shamir & Zhang 2013): what the weights began as must not linger in it. On large
data, where the time is over before many passes, an epoch is a tenth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Event
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.accelerate import Accelerator
from models.encode import Arrays
from models.network import Network

#: Called as (phase, done, total) while training.
Report = Callable[[str, int, int], None]
#: The losses of one batch by name, ``loss`` being what is minimised: called as (batch, training).
Losses = Callable[[dict[str, Any], bool], dict[str, Any]]

#: Steps in which the learning rate rises from nothing, at most an epoch.
WARM_UP = 100
#: Fewest steps that weights are averaged over.
SHORTEST = 10
#: The largest share of the time that one epoch takes.
LONGEST = 0.1


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to train, how fast, and how hard to hold the weights down.

    Attributes:
        epochs, minutes: end at whichever comes first; an epoch is a pass, or LONGEST of the minutes.
        patience: epochs without a better validation loss before cooling down begins.
        cool: how long cooling down takes, as a multiple of the epochs before it, but two epochs at least; it begins
            early enough to be over in time.
        learning_rate: after the warm-up; ``weight_decay`` is decoupled from it (AdamW, Loshchilov & Hutter 2019) and
            spares biases, norms and tables.
        l1, l2: penalties on the same weights, added to the loss; ``table_l2`` on the embedding tables.
        clip: largest global norm of a gradient.
    """

    epochs: int = 30
    minutes: float = 7.0
    patience: int = 3
    cool: float = 0.25
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    table_l2: float = 0.0
    clip: float = 1.0


@dataclass
class Fit:
    """One run of the loop over a network.

    Args:
        network: its variables exist and are changed.
        losses: what is minimised, see :data:`Losses`.
        schedule: see :class:`Schedule`; ``accelerator`` says on what and how the steps run.
        phase: the name in progress reports and TensorBoard.
    """

    network: Network
    losses: Losses
    schedule: Schedule
    accelerator: Accelerator
    phase: str = "train"
    history: dict[str, list[float]] = field(default_factory=dict)

    def run(
        self,
        learn: Callable[[], Iterable[Arrays]],
        steps: int,
        check: Callable[[], dict[str, float]],
        report: Report = lambda *_: None,
        logs: Path | None = None,
    ) -> dict[str, list[float]]:
        """Train; the network ends with the best weights.

        Args:
            learn: the batches of one epoch, ``steps`` of them.
            check: validation figures after each epoch, ``val_loss`` among them: less is better.
            report: progress; ``logs``: folder for TensorBoard.

        Returns:
            Every figure by epoch, ``seconds`` (since the start) and ``learning_rate`` among them.

        Raises:
            ValueError: the loss is no number any more.
        """
        schedule, started = self.schedule, time.monotonic()
        with self.accelerator.scope():
            memory = tf.Variable(0.0, trainable=False)
            optimizer = self._optimizer(memory)
        step = self.accelerator.step(self._step(optimizer))
        writer = tf.summary.create_file_writer(str(logs)) if logs else tf.summary.create_noop_writer()
        best, waited, done = float("inf"), 0, 0
        best_weights = go_on_from = self.network.get_weights()
        cool_from, cool_for, taken = None, 0, 0
        while True:
            sums: dict[str, list[Any]] = {}
            begun = time.monotonic()
            for place, batch in enumerate(learn()):
                spent = (time.monotonic() - begun) / (60 * schedule.minutes * LONGEST)  # of the epoch's time
                if place and spent > 1:
                    break
                epoch = done + max(place / steps, min(spent, 1.0))
                share = 0.0 if cool_from is None else min((epoch - cool_from) / cool_for, 0.98)
                rate = schedule.learning_rate * min(1.0, (taken + 1) / min(WARM_UP, steps)) * (1 - share)
                optimizer.learning_rate.assign(rate)
                memory.assign(remembered(taken, steps))
                for name, value in step(batch).items():
                    sums.setdefault(name, []).append(value)
                taken += 1
                report(f"{self.phase}, epoch {done + 1}", place + 1, steps)
                if time.monotonic() - started > 60 * schedule.minutes:
                    break
            done += 1
            elapsed = time.monotonic() - started
            found = {name: float(np.mean([float(v) for v in values])) for name, values in sums.items()}
            last = self.network.get_weights()
            optimizer.finalize_variable_values(self.network.trainable_variables)  # the averages take their place
            found |= check() | {"seconds": elapsed, "learning_rate": float(rate)}
            self._note(found, writer, done)
            if not np.isfinite(found["loss"] + found["val_loss"]):
                raise ValueError(
                    f"Learning diverged: after epoch {done} of {self.phase} the loss is no number; "
                    "a lower learning_rate may help."
                )
            if found["val_loss"] < best:
                best, best_weights, go_on_from, waited = found["val_loss"], self.network.get_weights(), last, 0
            else:
                waited += 1
            self.network.set_weights(last)
            over = elapsed > 60 * schedule.minutes or done >= schedule.epochs
            if over or (cool_from is not None and done >= cool_from + cool_for):
                break
            spent = max(done / schedule.epochs, elapsed / (60 * schedule.minutes))
            if cool_from is None and (waited >= schedule.patience or spent * (1 + schedule.cool) >= 1):
                self.network.set_weights(go_on_from)
                cool_from, cool_for = done, max(2, round(schedule.cool * done))
        self.network.set_weights(best_weights)
        return self.history

    def _optimizer(self, memory: tf.Variable) -> keras.optimizers.Optimizer:
        """AdamW; each step the averages keep the share ``memory`` of themselves."""
        schedule = self.schedule
        optimizer = keras.optimizers.AdamW(
            schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            global_clipnorm=schedule.clip,
            use_ema=True,
        )
        optimizer.ema_momentum = memory
        spared = [v for v in self.network.trainable_variables if not is_matrix(v)]
        if schedule.weight_decay and spared:
            optimizer.exclude_from_weight_decay(var_list=spared)
        optimizer.build(self.network.trainable_variables)
        return optimizer

    def _step(self, optimizer: keras.optimizers.Optimizer) -> Callable[[dict[str, Any]], dict[str, Any]]:
        network = self.network

        def step(batch: dict[str, Any]) -> dict[str, Any]:
            variables = network.trainable_variables
            sources = [variable.value for variable in variables]
            with tf.GradientTape() as tape:
                parts = self.losses(batch, True)
                loss = parts["loss"] + tf.add_n([tf.zeros(()), *network.losses, *self._penalties(variables)])
            gradients = tape.gradient(loss, sources, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            optimizer.apply([tf.convert_to_tensor(g) for g in gradients], variables)
            return parts

        return step

    def _penalties(self, variables: Sequence[Any]) -> list[Any]:
        schedule = self.schedule
        matrices = [v for v in variables if is_matrix(v)]
        tables = [v for v in variables if v.name == "embeddings"]
        penalties = [schedule.l1 * tf.reduce_sum(tf.abs(v)) for v in matrices if schedule.l1]
        penalties += [schedule.l2 * tf.reduce_sum(tf.square(v)) for v in matrices if schedule.l2]
        return penalties + [schedule.table_l2 * tf.reduce_sum(tf.square(v)) for v in tables if schedule.table_l2]

    def _note(self, found: dict[str, float], writer: Any, epoch: int) -> None:
        for name, value in found.items():
            self.history.setdefault(name, []).append(round(value, 6))
        with writer.as_default(step=epoch):
            for name, value in found.items():
                tf.summary.scalar(f"{self.phase}/{name}", value)


def remembered(taken: int, steps: int) -> float:
    """The share that the averages keep of themselves after so many steps: they reach over a third of these, or over
    ``steps`` of them, whichever is less."""
    return min((1 + taken) / (4 + taken), 1 - 1 / max(steps, SHORTEST))


def ahead(batches: Iterable[Arrays], count: int = 4) -> Generator[Arrays]:
    """The batches, made in a thread of their own up to ``count`` ahead of the step that takes them."""
    queue: Queue[Arrays | None] = Queue(count)
    over = Event()

    def fill() -> None:
        for batch in batches:
            queue.put(batch)
            if over.is_set():
                return
        queue.put(None)

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as executor:
        filling = executor.submit(fill)
        try:
            while True:
                try:
                    batch = queue.get(timeout=1.0)
                except Empty:
                    if filling.done():
                        filling.result()  # raises what went wrong there
                    continue
                if batch is None:
                    break
                yield batch
        finally:
            over.set()
            while not filling.done():
                with suppress(Empty):
                    queue.get(timeout=0.01)


def is_matrix(variable: Any) -> bool:
    """Whether a variable is a weight matrix: not a bias, a norm or an embedding table."""
    return len(variable.shape) == 2 and variable.name == "kernel"


def mean_losses(
    network: Network, losses: Losses, batches: Callable[[], Iterable[Arrays]], accelerator: Accelerator
) -> Callable[[], dict[str, float]]:
    """A check for :meth:`Fit.run`: the mean of every loss over all rows of the batches, as ``val_<name>``.

    However they are batched: a batch that has few amounts says little of them, and one that has none says nothing.
    """
    forward = accelerator.step(lambda batch: losses(batch, False))

    def check() -> dict[str, float]:
        sums: dict[str, float] = {}
        rows: dict[str, float] = {}
        for batch in batches():
            found = forward(batch)
            for name, weight in network.rows_of(batch).items():
                count = float(weight)
                sums[name] = sums.get(name, 0.0) + count * float(found[name])
                rows[name] = rows.get(name, 0.0) + count
        means = {name: total / rows[name] if rows[name] else 0.0 for name, total in sums.items()}
        return {"val_loss": float(network.judged(means, rows)), **{f"val_{name}": mean for name, mean in means.items()}}

    return check
