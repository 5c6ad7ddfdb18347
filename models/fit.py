"""The training loop: one optimiser, one schedule, early stopping; for pretraining, fine-tuning and every protocol.

The learning rate warms up, stays, and cools down to nothing when no better validation loss comes or the time is nearly
over (warm-up, stable, decay: Hu et al. 2024). What is checked, and kept where its validation loss is best, are moving
averages of the weights (:mod:`models.steps`). On large data, where the time is over before many passes, an epoch is a
tenth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Event
from typing import Any

import numpy as np
import tensorflow as tf

from models.accelerate import Accelerator
from models.encode import Arrays
from models.network import Network
from models.steps import Losses, Schedule, Steps

#: Called as (phase, done, total) while training.
Report = Callable[[str, int, int], None]

#: The largest share of the time that one epoch takes.
LONGEST = 0.1
#: The share of the cool-down at which the learning rate falls no further.
COLDEST = 0.98


@dataclass(frozen=True, slots=True)
class Course:
    """How far the best weights had come, in passes over the data, so that :meth:`Fit.retrace` goes there again.

    Attributes:
        steady: passes at the full learning rate; after them, ``cooling`` passes of a cool-down that takes ``cool_for``.
    """

    steady: float
    cooling: float = 0.0
    cool_for: float = 1.0

    @property
    def passes(self) -> float:
        """All of them."""
        return self.steady + self.cooling

    def until(self, taking: Steps, cool_at: float) -> Course:
        """The course to where ``taking`` is now, with the cool-down that began after ``cool_at`` passes."""
        last = taking.passes - 1 / taking.steps - cool_at  # passes of the cool-down when the last step was taken
        return Course(self.steady, taking.passes - cool_at, last / taking.cooled if taking.cooled else 1.0)

    def cooled(self, passes: float) -> float:
        """The share of the cool-down that is over after so many passes."""
        return min(max(passes - self.steady, 0.0) / self.cool_for, COLDEST)


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
    course: Course = field(default_factory=lambda: Course(0.0))

    def run(
        self,
        learn: Callable[[], Iterable[Arrays]],
        steps: int,
        check: Callable[[], dict[str, float]],
        report: Report = lambda *_: None,
        logs: Path | None = None,
    ) -> dict[str, list[float]]:
        """Train; the network ends with the best weights, and ``course`` says how far they had come.

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
        taking = Steps(self.network, self.losses, schedule, self.accelerator, steps)
        writer = tf.summary.create_file_writer(str(logs)) if logs else tf.summary.create_noop_writer()
        best, waited, done = float("inf"), 0, 0
        best_weights = go_on_from = self.network.get_weights()
        cool_from, cool_for, cool_at = None, 0, 0.0
        while True:
            sums: dict[str, list[Any]] = {}
            begun = time.monotonic()
            for place, batch in enumerate(learn()):
                spent = (time.monotonic() - begun) / (60 * schedule.minutes * LONGEST)  # of the epoch's time
                if place and spent > 1:
                    break
                epoch = done + max(place / steps, min(spent, 1.0))
                cooled = 0.0 if cool_from is None else min((epoch - cool_from) / cool_for, COLDEST)
                for name, value in taking.take(batch, cooled).items():
                    sums.setdefault(name, []).append(value)
                report(f"{self.phase}, epoch {done + 1}", place + 1, steps)
                if time.monotonic() - started > 60 * schedule.minutes:
                    break
            done += 1
            elapsed = time.monotonic() - started
            found = {name: float(np.mean([float(v) for v in values])) for name, values in sums.items()}
            last = self.network.get_weights()
            taking.settle()
            found |= check() | {"seconds": elapsed, "learning_rate": taking.rate}
            self._note(found, writer, done)
            if not np.isfinite(found["loss"] + found["val_loss"]):
                raise ValueError(
                    f"Learning diverged: after epoch {done} of {self.phase} the loss is no number; "
                    "a lower learning_rate may help."
                )
            if found["val_loss"] < best:
                best, best_weights, go_on_from, waited = found["val_loss"], self.network.get_weights(), last, 0
                if cool_from is None:
                    self.course = Course(taking.passes)
                else:
                    self.course = self.course.until(taking, cool_at)
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
                cool_at = taking.passes
        self.network.set_weights(best_weights)
        return self.history

    def retrace(
        self, course: Course, learn: Callable[[], Iterable[Arrays]], steps: int, report: Report = lambda *_: None
    ) -> None:
        """Train as far as ``course`` says, on other data than it was found with.

        Args:
            learn, steps, report: as for :meth:`run`.

        Raises:
            ValueError: the loss is no number any more.
        """
        taking = Steps(self.network, self.losses, self.schedule, self.accelerator, steps)
        total, loss = max(round(course.passes * steps), 1), 0.0
        while taking.taken < total:
            for batch in learn():
                loss = taking.take(batch, course.cooled(taking.passes))["loss"]
                report(f"{self.phase} again", taking.taken, total)
                if taking.taken >= total:
                    break
        taking.settle()
        if not np.isfinite(float(loss)):
            raise ValueError(
                f"Learning diverged: after {taking.passes:.1f} passes of {self.phase} the loss is no number; "
                "a lower learning_rate may help."
            )

    def _note(self, found: dict[str, float], writer: Any, epoch: int) -> None:
        for name, value in found.items():
            self.history.setdefault(name, []).append(round(value, 6))
        with writer.as_default(step=epoch):
            for name, value in found.items():
                tf.summary.scalar(f"{self.phase}/{name}", value)


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
