"""What every network has in common: its inputs, its losses, and how a training step runs.

A network is four functions: ``item_vectors`` (content to vector), ``encode`` (history to state), ``score`` (state and
candidates to logits) and ``query`` (state to a vector that finds items). Training calls them on windows in which every
decision has its own visible prefix; serving is the case in which the prefix is the whole history.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from models.contract import FIRST, PAD, POPULARITY, UNKNOWN, Contract
from models.draws import below, unit, words
from models.encode import POPULARITY_SCALE, Arrays
from models.losses import examined_cross_entropy, full_softmax, log_error, sampled_softmax
from models.negatives import alias_table
from models.past import Candidates, Catalogue, Events, Past
from models.topk import by_vector

Tensor = Any

#: Items that were acted on less often in training share one id embedding and are told apart by their content, if any.
RARE = 5
#: What an error of a value's logarithm costs beside the log losses of the targets: it is -log p of a Laplace
#: distribution whose mean error is a quarter. All losses together are then one likelihood of the decisions.
VALUE_WEIGHT = 4.0


class Network(keras.Model):  # type: ignore[misc]
    """A trainable model over one contract.

    Args:
        contract: inputs and outputs; ``state_width`` (below) completes its state_shape.
        content: ``categories`` [V, levels] and ``numbers`` [V, 3] of every item id.
        negatives: shared negatives of the retrieval loss in each step; 0 compares with the whole catalogue.
        retrieval_weight: share of the retrieval loss in the total; 0 for networks that do not retrieve by vector.
    """

    state_width: int
    #: Whether it learns from negatives that are hard to tell (negatives.Noise), or from uniformly drawn ones alone.
    takes_hard = False
    #: How hard its weights are held down where nothing else is said, see steps.Schedule.
    weight_decay = 0.0

    def __init__(self, contract: Contract, content: Arrays, *, negatives: int, retrieval_weight: float) -> None:
        super().__init__()
        self.contract = contract
        self.negatives = negatives
        self.retrieval_weight = retrieval_weight
        self.categories = tf.constant(content["categories"], tf.int32)
        self.numbers = tf.constant(content["numbers"], tf.float32)
        counts = np.expm1(content["numbers"][:, POPULARITY] * POPULARITY_SCALE)
        common = (counts >= RARE - 0.5) | (not contract.category_sizes)
        ids = np.where(common, np.arange(contract.items), UNKNOWN)
        self.id_rows = tf.constant(np.where(np.arange(contract.items) == PAD, PAD, ids), tf.int32)
        chance = np.where(np.arange(contract.items) >= FIRST, 1 / len(counts) + counts / max(counts.sum(), 1.0), 0.0)
        chance /= chance.sum()
        self.draw_chance = tf.constant(chance, tf.float32)
        self.draw_table = alias_table(chance) if negatives else None
        self.seeds = keras.random.SeedGenerator()

    # What a network defines.

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """Vectors [..., width] of items given by id [...], category ids [..., levels] and numbers [..., 3]."""
        raise NotImplementedError

    def encode(self, events: Events, vectors: Tensor, shown: Tensor, training: bool = False) -> Tensor:
        """The state [B, L, state_width] of histories [B, L] whose items have the vectors [B, L, width].

        ``shown`` [B, L, width] is the mean vector of what was shown before each event, see :func:`mean_vector`.
        """
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

    @property
    def by_vector(self) -> bool:
        """Whether the catalogue is scored as below, and not in a way of the network's own: an index can then help."""
        return type(self).catalogue_scores is Network.catalogue_scores

    def retrieval(self, past: Past, context: Tensor) -> tuple[Tensor, Tensor]:
        """For each past (of one decision) its query [B, width], and what each event adds to its own item [B, L]."""
        query = self.query(past, context[:, None])[:, 0]
        if not self.contract.repeats:
            return query, tf.zeros(tf.shape(past.valid))
        return query, copy_bonus(past.events[0], self.copy_weights(past))[:, 0]

    def catalogue_scores(self, past: Past, context: Tensor, catalogue: Catalogue) -> Tensor:
        """How well each item of the catalogue suits each past (of one decision), [B, V].

        The logit is query times vector, plus log(1 + what the events on that very item weigh): a copy mechanism (Gu et
        al. 2016), since people come back to things, and rare items have no vector that could say so.
        """
        query, bonus = self.retrieval(past, context)
        items, _ = past.events
        return by_vector(query, catalogue.vectors, items, bonus)

    # What they share.

    def catalogue_vectors(self, items: Tensor, popularity: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors and numbers of known items [...]; ``popularity`` [...] replaces the final one where given."""
        numbers = tf.gather(self.numbers, items)
        if popularity is not None:
            numbers = tf.concat([numbers[..., :POPULARITY], popularity[..., None]], axis=-1)
        return self.item_vectors(items, tf.gather(self.categories, items), numbers), numbers

    def losses_of(self, batch: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
        """Every loss of one batch of windows (see samples.Windows.batch), by name, and their weighted sum ``loss``."""
        past = self.past_of(batch, training)
        own, numbers = self.catalogue_vectors(batch["candidates"], batch["popularity"])
        candidates = Candidates(batch["candidates"], own, numbers, batch["context"])
        logits = self.score(past, candidates, self.categories, training)
        look = self.examination(batch["shown"])  # [B, D]
        parts = {}
        targets = self.contract.targets
        for i, name in enumerate(targets):
            odds = logits[..., i] - batch["drawn"]  # beside the items as they were drawn
            parts[name] = self.target_loss(odds, batch["labels"][..., i], batch["weights"][..., i], look)
        for i, name in enumerate(self.contract.values):
            scale = self.contract.value_scales[name]
            parts[name] = log_error(logits[..., len(targets) + i], batch["amounts"][..., i] / scale)
        moved = replace(past, prefix=batch["move_prefix"], since=batch["move_since"])
        parts["retrieval"] = self.retrieval_loss(moved, batch) if self.retrieval_weight else tf.zeros(())
        return {"loss": self.total(parts, self.rows_of(batch)), **parts}

    def total(self, parts: Mapping[str, Any], rows: Mapping[str, Any]) -> Any:
        """What is minimised of losses by name, each a mean over so many ``rows``: the heads', some of retrieval's."""
        return self.judged(parts, rows) + self.retrieval_weight * parts["retrieval"]

    def judged(self, parts: Mapping[str, Any], rows: Mapping[str, Any]) -> Any:
        """What says when to stop: the loss of the heads. Retrieval's, which falls on for long after clicks are
        learned by heart, says so only where it is alone.

        A target counts as it is, a value by VALUE_WEIGHT and the share of the decisions that tell it.
        """
        contract = self.contract
        if contract.targets[0] not in parts:
            return parts["retrieval"]
        decisions = rows[contract.targets[-1]]  # every decision knows of the strongest
        shares = [tf.math.divide_no_nan(rows[name], decisions) for name in contract.values]
        values = [VALUE_WEIGHT * share * parts[name] for name, share in zip(contract.values, shares, strict=True)]
        return sum(parts[name] for name in contract.targets) + sum(values)

    def rows_of(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The sum of weights that each loss of a batch is the mean over, by name."""
        moves = tf.gather(tf.reshape(batch["moves"], [-1]), tf.maximum(batch["picked"], 0))
        rows = {"retrieval": tf.math.count_nonzero((batch["picked"] >= 0) & (moves != PAD), dtype=tf.float32)}
        if "weights" in batch:
            told = tf.cast(tf.greater(batch["amounts"], 0.0), tf.float32)  # NaN, which is not known, is not greater
            counts = tf.reduce_sum(tf.concat([batch["weights"], told], axis=-1), axis=[0, 1])
            rows |= dict(zip((*self.contract.targets, *self.contract.values), tf.unstack(counts), strict=True))
        return rows

    def past_of(self, batch: dict[str, Tensor], training: bool) -> Past:
        """The windows of a batch, encoded, and what each of its decisions sees of them."""
        events = Events.of(batch)
        return Past(self.state_of(events, training), events.items != PAD, batch["prefix"], batch["since"])

    def state_of(self, events: Events, training: bool = False) -> Tensor:
        """The state [B, L, state_width] of histories [B, L] of known items.

        What was shown is told by vectors that events and candidates teach: to teach them by it as well would cost most
        of a step, for there are many times as many.
        """
        vectors, _ = self.catalogue_vectors(events.items)
        exposed, _ = self.catalogue_vectors(events.exposed)
        return self.encode(events, vectors, tf.stop_gradient(mean_vector(exposed, events.exposed)), training)

    def target_loss(self, logits: Tensor, labels: Tensor, weights: Tensor, look: Tensor) -> Tensor:
        """What one target's logits [B, D] cost, a scalar; ``look`` [B, D]: the chance that each place was looked at."""
        return examined_cross_entropy(logits, labels, weights, look)

    def build_examination(self, positions: int = 32) -> None:
        """A chance for each shown position that it is looked at, relative to the first; serving leaves it out.

        The position-based model of clicks (Richardson et al. 2007; Craswell et al. 2008): what is not looked at is
        neither clicked nor bought, so one curve holds for all targets.
        """
        self.positions = self.add_weight(
            name="positions", shape=(positions,), initializer=keras.initializers.Constant(2.0)
        )

    def examined(self) -> Tensor:
        """The chance that each place is looked at [positions]; 1 for the first and where no place is known (0)."""
        place = tf.range(self.positions.shape[0])
        return tf.where(place > 1, tf.sigmoid(self.positions), 1.0)

    def examination(self, shown: Tensor) -> Tensor:
        """The chance that the places [B, D] were looked at; what lies beyond the last known place counts as there."""
        return tf.gather(self.examined(), tf.clip_by_value(shown, 0, self.positions.shape[0] - 1))

    def pretraining_losses(self, batch: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
        """The loss of predicting every next event's item, and nothing else."""
        moves = {"prefix": batch["move_prefix"], "since": batch["move_since"]}
        parts = {"retrieval": self.retrieval_loss(self.past_of(batch | moves, training), batch)}
        return {"loss": parts["retrieval"], **parts}

    def retrieval_loss(self, past: Past, batch: dict[str, Tensor]) -> Tensor:
        """Cross-entropy of the next moves ``moves`` [B, M] at the flat places ``picked`` [R] (-1: none), scalar out.

        The softmax is over the whole catalogue, or over ``negatives`` drawn items (half uniformly, half by
        popularity) whose logits are corrected for how often they are drawn.
        """
        picked, known = tf.maximum(batch["picked"], 0), batch["picked"] >= 0  # [R]
        query = self.query(past, batch["move_context"])  # [B, M, W]
        query = flat(query, picked)  # [R, W]
        moves = tf.gather(tf.reshape(batch["moves"], [-1]), picked)  # [R]
        known &= moves != PAD
        if self.contract.repeats:
            items = tf.repeat(past.events[0], tf.shape(batch["moves"])[1], axis=0)  # [B * M, L]
            items = tf.gather(items, picked)  # [R, L]
            weights = self.copy_weights(past)  # [B, M, L]
        if not self.negatives:
            vectors, _ = self.catalogue_vectors(tf.range(self.contract.items))
            logits = tf.matmul(query, vectors, transpose_b=True)  # [R, V]
            logits = tf.concat([tf.fill([tf.shape(logits)[0], FIRST], -1e9), logits[:, FIRST:]], axis=1)
            if self.contract.repeats:
                bonus = flat(copy_bonus(past.events[0], weights), picked)
                logits = tf.tensor_scatter_nd_add(logits, row_indices(items), bonus)
            return full_softmax(logits, moves, known)
        drawn = self.draw_negatives()
        positives, _ = self.catalogue_vectors(moves)
        negatives, _ = self.catalogue_vectors(drawn)
        right = tf.reduce_sum(query * positives, axis=-1)
        wrong = tf.matmul(query, negatives, transpose_b=True)  # [R, S]
        if self.contract.repeats:
            copies = flat(weights, picked)
            again = tf.cast(items == moves[:, None], tf.float32)
            right += tf.math.log1p(tf.reduce_sum(copies * again, axis=-1))
            wrong += tf.math.log1p(copies_of(items, copies, drawn, self.contract.items))
        wrong -= tf.math.log(self.negatives * tf.gather(self.draw_chance, drawn))
        return sampled_softmax(right, wrong, moves[:, None] == drawn, known)

    def draw_negatives(self) -> Tensor:
        """Item ids [negatives] by :attr:`draw_chance`, see negatives.alias_table; tf.random.categorical would, under
        XLA, draw a number for each item of the catalogue and each draw."""
        assert self.draw_table is not None
        share, other = self.draw_table
        drawn = words(self.seeds, 2 * self.negatives)
        place = below(len(share), drawn[: self.negatives])
        own = unit(drawn[self.negatives :]) < tf.gather(tf.constant(share), place)
        return tf.where(own, place, tf.gather(tf.constant(other), place))


def flat(rows: Tensor, picked: Tensor) -> Tensor:
    """Of rows [B, M, W] those at the flat places [R], [R, W]."""
    return tf.gather(tf.reshape(rows, [-1, tf.shape(rows)[-1]]), picked)


def mean_vector(vectors: Tensor, items: Tensor) -> Tensor:
    """The mean [..., width] of the vectors [..., E, width] of items [..., E] without PAD; zeros where there is none."""
    real = tf.cast(items != PAD, tf.float32)
    total = tf.reduce_sum(vectors * real[..., None], axis=-2)
    return total / tf.maximum(tf.reduce_sum(real, axis=-1, keepdims=True), 1.0)


def copies_of(items: Tensor, weights: Tensor, drawn: Tensor, catalogue: int) -> Tensor:
    """The copy weights [R, L] of the events on each drawn item, summed, [R, S]; events are on items [R, L].

    By way of a table from item to its place among those drawn [S], for a comparison of all with all would be [R, L, S].
    """
    table = tf.tensor_scatter_nd_update(tf.fill([catalogue], -1), drawn[:, None], tf.range(tf.shape(drawn)[0]))
    place = tf.gather(table, items)  # [R, L]; -1 where the item was not drawn
    pairs = row_indices(tf.maximum(place, 0))
    room = tf.zeros([tf.shape(items)[0], tf.shape(drawn)[0]])
    found = tf.tensor_scatter_nd_add(room, pairs, tf.where(place >= 0, weights, 0.0))
    return tf.gather(found, tf.gather(table, drawn), axis=1)  # an item that was drawn twice has one place


def copy_bonus(items: Tensor, weights: Tensor) -> Tensor:
    """What each past event adds to its own item's logit, [B, M, L], of items [B, L] with copy weights [B, M, L].

    An item's bonus is log(1 + the weights of all its events), and its events share it, for a scatter adds them up.
    """
    same = tf.cast(items[:, :, None] == items[:, None, :], tf.float32)  # [B, L, L]
    return tf.math.log1p(tf.matmul(weights, same)) / tf.reduce_sum(same, axis=-1)[:, None]


def row_indices(items: Tensor) -> Tensor:
    """Pairs (row, item) [B, L, 2] of item ids [B, L]."""
    rows = tf.broadcast_to(tf.range(tf.shape(items)[0])[:, None], tf.shape(items))
    return tf.stack([rows, items], axis=-1)
