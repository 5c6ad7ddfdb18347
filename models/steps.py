"""Steps of learning: an optimiser, its rate and penalties, and the averages that the weights are judged and kept by.

The averages move over about an epoch (Polyak & Juditsky 1992), or over the last third of the steps so far where that is
less (Shamir & Zhang 2013): what the weights began as must not linger in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from models.accelerate import Accelerator
from models.network import Network

#: The losses of one batch by name, ``loss`` being what is minimised: called as (batch, training).
Losses = Callable[[dict[str, Any], bool], dict[str, Any]]

#: Steps in which the learning rate rises from nothing, at most an epoch.
WARM_UP = 100
#: Fewest steps that weights are averaged over.
SHORTEST = 10


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


class Steps:
    """Steps over a network, ``steps`` of them a pass over the data.

    Args:
        network: its variables exist and are changed.
        losses: what is minimised, see :data:`Losses`.
    """

    def __init__(
        self, network: Network, losses: Losses, schedule: Schedule, accelerator: Accelerator, steps: int
    ) -> None:
        self.network, self.losses, self.schedule, self.steps = network, losses, schedule, steps
        self.taken, self.rate, self.cooled = 0, 0.0, 0.0
        with accelerator.scope():
            self._memory = tf.Variable(0.0, trainable=False)
            self._optimizer = self._build_optimizer()
        self._step = accelerator.step(self._build_step())

    @property
    def passes(self) -> float:
        """Passes over the data that the steps so far make."""
        return self.taken / self.steps

    def take(self, batch: dict[str, Any], cooled: float) -> dict[str, Any]:
        """One step, at what the share ``cooled`` of the cool-down leaves of the learning rate; returns the losses."""
        self.rate = self.schedule.learning_rate * min(1.0, (self.taken + 1) / min(WARM_UP, self.steps)) * (1 - cooled)
        self.cooled = cooled
        self._optimizer.learning_rate.assign(self.rate)
        self._memory.assign(remembered(self.taken, self.steps))
        self.taken += 1
        return dict(self._step(batch))

    def settle(self) -> None:
        """The averages take the place of the weights."""
        self._optimizer.finalize_variable_values(self.network.trainable_variables)

    def _build_optimizer(self) -> keras.optimizers.Optimizer:
        """AdamW; each step the averages keep the share ``_memory`` of themselves."""
        schedule = self.schedule
        optimizer = keras.optimizers.AdamW(
            schedule.learning_rate,
            weight_decay=schedule.weight_decay,
            global_clipnorm=schedule.clip,
            use_ema=True,
        )
        optimizer.ema_momentum = self._memory
        spared = [v for v in self.network.trainable_variables if not is_matrix(v)]
        if schedule.weight_decay and spared:
            optimizer.exclude_from_weight_decay(var_list=spared)
        optimizer.build(self.network.trainable_variables)
        return optimizer

    def _build_step(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        network, optimizer = self.network, self._optimizer

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


def remembered(taken: int, steps: int) -> float:
    """The share that the averages keep of themselves after so many steps: they reach over a third of these, or over
    ``steps`` of them, whichever is less."""
    return min((1 + taken) / (4 + taken), 1 - 1 / max(steps, SHORTEST))


def is_matrix(variable: Any) -> bool:
    """Whether a variable is a weight matrix: not a bias, a norm or an embedding table."""
    return len(variable.shape) == 2 and variable.name == "kernel"
