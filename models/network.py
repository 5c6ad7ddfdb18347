"""What every network has in common: its inputs, its losses, and how a training step runs.

A network is four functions: ``item_vectors`` (content to vector), ``encode`` (history to state), ``score`` (state and
candidates to logits) and ``query`` (state to a vector that finds items). Training calls them on windows in which every
decision has its own visible prefix; serving is the case in which the prefix is the whole history.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.contract import FIRST, PAD, POPULARITY, UNKNOWN, Contract
from models.encode import POPULARITY_SCALE, Arrays
from models.losses import binary_cross_entropy, gamma_deviance, sampled_softmax
from models.past import Candidates, Catalogue, Past

Tensor = Any

#: Items that were acted on less often in training share one id embedding and are told apart by their content.
RARE = 5


class Network(keras.Model):  # type: ignore[misc]
    """A trainable model over one contract.

    Args:
        contract: inputs and outputs; ``state_width`` (below) completes its state_shape.
        content: ``categories`` [V, levels] and ``numbers`` [V, 3] of every item id.
        negatives: shared negatives of the retrieval loss in each step; 0 for networks that do not retrieve by vector.
        retrieval_weight: share of the retrieval loss in the total.
    """

    state_width: int

    def __init__(self, contract: Contract, content: Arrays, *, negatives: int, retrieval_weight: float) -> None:
        super().__init__()
        self.contract = contract
        self.negatives = negatives
        self.retrieval_weight = retrieval_weight
        self.categories = tf.constant(content["categories"], tf.int32)
        self.numbers = tf.constant(content["numbers"], tf.float32)
        common = np.expm1(content["numbers"][:, POPULARITY] * POPULARITY_SCALE) >= RARE - 0.5
        ids = np.where(common, np.arange(contract.items), UNKNOWN)
        self.id_rows = tf.constant(np.where(np.arange(contract.items) == PAD, PAD, ids), tf.int32)
        self.meters = {
            name: keras.metrics.Mean(name=name) for name in ("loss", *contract.targets, *contract.values, "retrieval")
        }

    # What a network defines.

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """Vectors [..., width] of items given by id [...], category ids [..., levels] and numbers [..., 3]."""
        raise NotImplementedError

    def encode(
        self,
        items: Tensor,
        types: Tensor,
        gaps: Tensor,
        values: Tensor,
        vectors: Tensor,
        training: bool = False,
    ) -> Tensor:
        """The state [B, L, state_width] of histories [B, L] whose items have the vectors [B, L, width]."""
        raise NotImplementedError

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """Logits [B, D, targets + values] of candidates; ``categories`` [V, levels] are those of every item."""
        raise NotImplementedError

    def query(self, past: Past, context: Tensor) -> Tensor:
        """Retrieval queries [B, M, width]: the inner product with an item's vector ranks the catalogue."""
        raise NotImplementedError

    def copy_weights(self, past: Past) -> Tensor:
        """How much each past event speaks for its own item again, [B, M, L]; 0 where it is not visible."""
        raise NotImplementedError

    def catalogue_scores(self, past: Past, context: Tensor, catalogue: Catalogue) -> Tensor:
        """How well each item of the catalogue suits each past (of one decision), [B, V].

        The logit is query times vector, plus log(1 + what the events on that very item weigh): a copy mechanism (Gu et
        al. 2016), since people come back to things, and rare items have no vector that could say so.
        """
        query = self.query(past, context[:, None])[:, 0]  # [B, width]
        scores = tf.matmul(query, catalogue.vectors, transpose_b=True)
        items, _ = past.events
        same = tf.cast(items[:, :, None] == items[:, None, :], tf.float32)  # [B, L, L]
        weights = self.copy_weights(past)[:, 0]  # [B, L]
        # An item's events share its bonus, for the scatter adds them up again.
        bonus = tf.math.log1p(tf.linalg.matvec(same, weights)) / tf.reduce_sum(same, axis=-1)
        inside = items < tf.shape(catalogue.vectors)[0]
        places = batch_indices(tf.where(inside, items, PAD))
        return tf.tensor_scatter_nd_add(scores, places, tf.where(inside, bonus, 0.0))

    # What they share.

    def catalogue_vectors(self, items: Tensor, popularity: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors and numbers of known items [...]; ``popularity`` [...] replaces the final one where given."""
        numbers = tf.gather(self.numbers, items)
        if popularity is not None:
            numbers = tf.concat([numbers[..., :POPULARITY], popularity[..., None]], axis=-1)
        return self.item_vectors(items, tf.gather(self.categories, items), numbers), numbers

    def losses_of(self, batch: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
        """Every loss of one batch of windows (see samples.Windows.batch), by name, and their weighted sum ``loss``."""
        vectors, _ = self.catalogue_vectors(batch["items"])
        state = self.encode(batch["items"], batch["types"], batch["gaps"], batch["values"], vectors, training)
        past = Past(state, batch["items"] != PAD, batch["prefix"])
        own, numbers = self.catalogue_vectors(batch["candidates"], batch["popularity"])
        candidates = Candidates(batch["candidates"], own, numbers, batch["context"])
        logits = self.score(past, candidates, self.categories, training)
        logits += self.position_bias(batch["shown"])
        parts = {}
        targets = self.contract.targets
        for i, name in enumerate(targets):
            parts[name] = binary_cross_entropy(logits[..., i], batch["labels"][..., i], batch["weights"][..., i])
        for i, name in enumerate(self.contract.values):
            scale = self.contract.value_scales[name]
            parts[name] = gamma_deviance(logits[..., len(targets) + i], batch["amounts"][..., i] / scale)
        moved = replace(past, prefix=batch["move_prefix"])
        parts["retrieval"] = self.retrieval_loss(moved, batch) if self.negatives else tf.zeros(())
        heads = tf.add_n([parts[name] for name in (*targets, *self.contract.values)])
        return {"loss": heads + self.retrieval_weight * parts["retrieval"], **parts}

    def build_position_bias(self, positions: int = 32) -> None:
        """One additive logit for each target and shown position, relative to the first; serving leaves it out."""
        self.positions = self.add_weight(
            name="positions", shape=(positions, len(self.contract.targets)), initializer="zeros"
        )

    def position_bias(self, shown: Tensor) -> Tensor:
        """What the place on the page adds to the logits [B, D, targets + values]; nothing for positions 0 and 1."""
        place = tf.clip_by_value(shown, 0, self.positions.shape[0] - 1)
        bias = tf.gather(self.positions, place) * tf.cast(place > 1, tf.float32)[..., None]
        return tf.pad(bias, [[0, 0], [0, 0], [0, len(self.contract.values)]])

    def retrieval_loss(self, past: Past, batch: dict[str, Tensor]) -> Tensor:
        """Sampled softmax of each next move against ``negatives`` items drawn uniformly for the whole batch."""
        query = self.query(past, batch["move_context"])  # [B, M, W]
        drawn = tf.random.uniform([self.negatives], FIRST, self.contract.items, tf.int32)
        moves, (items, _) = batch["moves"], past.events
        positives, _ = self.catalogue_vectors(moves)
        negatives, _ = self.catalogue_vectors(drawn)
        copies = self.copy_weights(past)  # [B, M, L]
        again = tf.cast(items[:, None, :] == moves[..., None], tf.float32)  # [B, M, L]
        drawn_again = tf.cast(items[:, :, None] == drawn, tf.float32)  # [B, L, S]
        right = tf.reduce_sum(query * positives, axis=-1) + tf.math.log1p(tf.reduce_sum(copies * again, axis=-1))
        wrong = tf.tensordot(query, negatives, [[2], [1]]) + tf.math.log1p(tf.matmul(copies, drawn_again))  # [B, M, S]
        return sampled_softmax(
            tf.reshape(right, [-1]),
            tf.reshape(wrong, [-1, self.negatives]),
            tf.reshape(moves, [-1, 1]) == drawn,
            float(np.log(max(self.contract.items - FIRST - 1, 1) / self.negatives)),
            tf.reshape(moves, [-1]) != PAD,
        )

    def train_step(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """One optimiser step (called by ``fit``)."""
        with tf.GradientTape() as tape:
            parts = self.losses_of(data, training=True)
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(parts["loss"], variables), variables)
        return self._meter(parts)

    def test_step(self, data: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses without learning (called by ``fit`` on the validation windows)."""
        return self._meter(self.losses_of(data, training=False))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The running means that ``fit`` resets between epochs."""
        return list(self.meters.values())

    def _meter(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, value in parts.items():
            self.meters[name].update_state(value)
        return {name: meter.result() for name, meter in self.meters.items()}


def batch_indices(items: Tensor) -> Tensor:
    """Pairs (row, item) [B, L, 2] of item ids [B, L]."""
    rows = tf.broadcast_to(tf.range(tf.shape(items)[0])[:, None], tf.shape(items))
    return tf.stack([rows, items], axis=-1)
