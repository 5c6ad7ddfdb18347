"""The behaviour Transformer, whole on one page.

A history is a causal Transformer over events (:mod:`models.encoder`); every event is its item's vector plus type, time
gap, value and what was shown before it. Distance enters attention as a learned bias, never as an absolute slot, so that
what a window teaches about its k-th event holds for the k-th event from the end of any history. A candidate attends to
the encoded history (with an empty slot to look at when nothing fits), meets it and the context in products of all
degrees and exact match features (:mod:`models.interactions`), and leaves as one logit a target and one log of a middle
size a value. The same state, through ``query``, retrieves from the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from models.contract import FIRST, GAP_BUCKETS, ITEM_NUMBERS, PAD, POPULARITY, STATE_TAIL, UNKNOWN, Contract
from models.encode import Arrays
from models.encoder import Attention, Encoder, EncoderConfig
from models.features import Standardise
from models.interactions import Interactions
from models.matches import match_parts, match_width, pack_tail, shown_and_told, total_width
from models.network import Network
from models.past import Candidates, Events, Past

Tensor = Any


@dataclass(frozen=True, slots=True)
class BehaviourConfig:
    """The Transformer, what judges candidates, and how retrieval learns.

    Attributes:
        products: how often factors of ``rank`` numbers, made of the features of a decision, are multiplied; ``hidden``:
            sizes of the deep part beside them.
        head_dropout: of the deep part; ``input_dropout`` of the features of a decision.
        negatives: items drawn for the retrieval loss of each step; 0 compares with the whole catalogue.
        retrieval_weight: share of the retrieval loss beside the targets' and values'.
        precision: ``float32``, or ``mixed_bfloat16`` / ``mixed_float16`` for the encoder's blocks.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    products: int = 2
    rank: int = 16
    hidden: tuple[int, ...] = (64, 32)
    head_dropout: float = 0.1
    input_dropout: float = 0.0
    negatives: int = 0
    retrieval_weight: float = 0.1
    precision: str = "float32"


#: What retrieval says about a candidate, see Behaviour.affinity.
AFFINITIES = 2
#: Standard deviation of the numbers in a new table.
SPREAD = 0.05
#: What is usual for an item is stored small: its prior is thus log-odds of a half, or a factor of e, more or less.
LIKING_GAIN, SIZE_GAIN = 10.0, 20.0


def prior_l2(decisions: int) -> float:
    """The L2 penalty under which tables are the most probable ones, given so many decisions (MAP estimation).

    The prior is the normal distribution they are drawn from. A mean loss plus this penalty is, over the number of
    decisions, the negative log posterior: what is met often is learned as ever, what is met seldom shrinks.
    """
    return 1 / (2 * max(decisions, 1) * SPREAD**2)


#: tiny: CI and the shipped model; small: a laptop; base and large: a GPU.
SIZES = {
    "tiny": BehaviourConfig(),
    "small": BehaviourConfig(EncoderConfig(width=64, layers=2), rank=32),
    "base": BehaviourConfig(EncoderConfig(width=128, layers=3, heads=4), products=3, rank=32, hidden=(256, 128)),
    "large": BehaviourConfig(EncoderConfig(width=256, layers=6, heads=8), products=3, rank=64, hidden=(512, 256)),
}


class Behaviour(Network):
    """The behaviour Transformer over one contract; see the module docstring."""

    takes_hard = True
    weight_decay = 0.3

    def __init__(self, contract: Contract, content: Arrays, config: BehaviourConfig) -> None:
        super().__init__(contract, content, negatives=config.negatives, retrieval_weight=config.retrieval_weight)
        self.config, width, length = config, config.encoder.width, contract.history_length
        self.state_width = width + STATE_TAIL
        self.id_table = embedding(contract.items, width, 0.02)
        self.category_tables = [embedding(size, width) for size in contract.category_sizes]
        self.number_layer = keras.layers.Dense(width, use_bias=False)
        self.type_table = embedding(FIRST + len(contract.behaviours), width)
        self.gap_table = embedding(GAP_BUCKETS, width)
        self.value_layer = keras.layers.Dense(width, use_bias=False)
        if contract.exposed:
            self.shown_layer = keras.layers.Dense(width, use_bias=False)
            self.exposures_layer = keras.layers.Dense(width, use_bias=False)
        self.context_tables = [embedding(field.size, width) for field in contract.fields]
        self.encoder = Encoder(config.encoder, length, config.precision)
        self.candidate_attention = Attention(width, config.encoder.heads, length)
        if contract.fields:
            # A query begins as the state itself; how the scene bends it is learned from zero.
            self.query_bend = keras.layers.Dense(2 * width, activation="gelu")
            self.query_layer = keras.layers.Dense(width, kernel_initializer="zeros")
        self.copy_layer = keras.layers.Dense(1)
        self.copy_distance = self.add_weight(name="copy_distance", shape=(length + 1,), initializer="zeros")
        self.copy_age = self.add_weight(
            name="copy_age", shape=(GAP_BUCKETS, FIRST + len(contract.behaviours)), initializer="zeros"
        )
        behaviours, exposed = len(contract.behaviours), contract.exposed > 0
        totals = total_width(behaviours, exposed)
        matches = match_width(behaviours, len(contract.category_sizes), exposed) - totals
        self.standardise = Standardise(matches + ITEM_NUMBERS + AFFINITIES)
        self.standardise_totals = Standardise(totals)
        self.interactions = Interactions(
            len(contract.targets) + len(contract.values),
            rank=config.rank,
            products=config.products,
            hidden=config.hidden,
            dropout=config.head_dropout,
            input_dropout=config.input_dropout,
        )
        if len(contract.targets) > 1:
            self.chain = self.add_weight(name="chain", shape=(len(contract.targets) - 1,), initializer="ones")
        self.usual = embedding(contract.items, len(contract.targets) + len(contract.values), 0.0)
        self.build_examination()

    def item_vectors(self, items: Tensor, categories: Tensor, numbers: Tensor) -> Tensor:
        """id embedding + category embeddings + price, [..., W]; rare items share the id embedding of UNKNOWN.

        Popularity stays out: its final count would tell training which items are acted on later.
        """
        rows = tf.gather(self.id_rows, tf.minimum(items, self.contract.items - 1))
        vectors = self.id_table(rows) + self.number_layer(numbers[..., :POPULARITY])
        return tf.add_n([vectors, *(table(categories[..., i]) for i, table in enumerate(self.category_tables))])

    def encode(self, events: Events, vectors: Tensor, shown: Tensor, training: bool = False) -> Tensor:
        """Causal Transformer over the events [B, L] -> state [B, L, W + STATE_TAIL]."""
        scale, exposures = self.config.encoder.width**0.5, events.exposures
        x = (
            vectors * scale
            + self.type_table(events.types)
            + self.gap_table(events.gaps)
            + self.value_layer(events.values[..., None])
        )
        if self.contract.exposed:
            number, told = shown_and_told(exposures)
            seen = tf.stack([tf.math.log1p(number), told], axis=-1)
            x += self.shown_layer(shown * scale) + self.exposures_layer(seen)
        rows = self.encoder(x, events.items != PAD, training=training)
        return tf.concat([rows, pack_tail(events.items, events.types, events.ages, exposures)], axis=-1)

    def score(self, past: Past, candidates: Candidates, categories: Tensor, training: bool = False) -> Tensor:
        """Logits [B, D, targets + values]: attention pooling, products, match features and context, interacting.

        What is the same for all candidates of one moment has a size of 1 in the place of D, and is computed once.
        """
        items, vectors, numbers, context, learned = candidates
        scale = self.config.encoder.width**0.5  # as in encode: tables hold small numbers, features have unit scale
        fields = [scale * table(context[..., i]) for i, table in enumerate(self.context_tables)]  # F of [B, D or 1, W]
        history, behaviours = (*past.events, past.ages, past.visible), len(self.contract.behaviours)
        exposures = past.exposures if self.contract.exposed else None
        matches, totals = match_parts(*history, items, categories, behaviours, exposures)
        facts = tf.concat([matches, numbers, self.affinity(past, candidates)], axis=-1)
        if training:
            real = items != PAD
            self.standardise.observe(facts, real)
            self.standardise_totals.observe(totals, real)
        vectors, user = vectors * scale, past.newest
        asked = vectors + sum(fields)
        wanted = self.candidate_attention(asked, past.rows, past.distance, past.visible)  # [B, D, W]
        own = [vectors, wanted, vectors * wanted, vectors * user, self.standardise(facts)]
        shared = [user, *fields, self.standardise_totals(totals)]
        usual = self.expected_of(items if learned is None else learned)
        return self.chained(self.interactions(own, shared, training=training) + usual)

    def expected_of(self, items: Tensor) -> Tensor:
        """What is usual for the items themselves [B, D], whoever meets them: a part of their logits [B, D, targets +
        values].

        Their vectors could say so too, but are held to a prior that they share with all else they say.
        """
        known = tf.gather(self.id_rows, tf.where(items < self.contract.items, items, UNKNOWN))
        gains = [LIKING_GAIN] * len(self.contract.targets) + [SIZE_GAIN] * len(self.contract.values)
        return self.usual(known) * tf.constant(gains)

    def chained(self, logits: Tensor) -> Tensor:
        """The logits [B, D, targets + values], to that of each target but the weakest added what is said of the weaker.

        Who buys has looked first: log p(purchase) is log p(click) plus how likely a click leads on (ESMM, Ma et al.
        2018), so the many clicks teach what the few purchases could not. A learned weight, at first 1, says how far
        that holds: a stronger behaviour need not follow the weaker.
        """
        parts = tf.unstack(logits, axis=-1)
        for place in range(1, len(self.contract.targets)):
            parts[place] += self.chain[place - 1] * tf.math.log_sigmoid(parts[place - 1])
        return tf.stack(parts, axis=-1)

    def affinity(self, past: Past, candidates: Candidates) -> Tensor:
        """What retrieval thinks of each candidate, [B, D, AFFINITIES]: query times vector, and the copy bonus.

        So the heads know what ``retrieve`` knows, and rank what it found no worse. They take it as it is: only
        retrieval's own loss teaches it (in a request it is computed already).
        """
        liking = tf.reduce_sum(self.query(past, candidates.context) * candidates.vectors, axis=-1)
        again = tf.zeros_like(liking)
        if self.contract.repeats:
            same = tf.cast(past.events[0][:, None] == candidates.items[..., None], tf.float32)  # [B, D, L]
            again = tf.math.log1p(tf.reduce_sum(self.copy_weights(past) * same, axis=-1))
        return tf.stop_gradient(tf.stack([liking, again], axis=-1))

    def query(self, past: Past, context: Tensor) -> Tensor:
        """The user at each prefix, in the scene of the moment, as a retrieval query [B, M, W]."""
        newest = past.newest
        if not self.context_tables:
            return newest
        scene = tf.add_n([table(context[..., i]) for i, table in enumerate(self.context_tables)])
        return newest + self.query_layer(self.query_bend(tf.concat([newest, scene], axis=-1)))

    def copy_weights(self, past: Past) -> Tensor:
        """exp of a linear function of each event's state plus biases for its distance and its age, [B, M, L].

        What is done again is done again soon, or when it is due: each type of event has a bias for each doubling of its
        age.
        """
        bias = tf.gather(self.copy_distance, tf.maximum(past.distance, 0))
        types = past.events[1][:, None]  # [B, 1, L]
        bias += tf.gather(tf.reshape(self.copy_age, [-1]), age_bucket(past.ages) * self.copy_age.shape[1] + types)
        logits = self.copy_layer(past.rows)[:, None, :, 0] + bias
        return tf.exp(tf.minimum(logits, 20.0)) * tf.cast(past.visible, tf.float32)


def age_bucket(ages: Tensor) -> Tensor:
    """Buckets of ages in hours, any shape: floor(log2(1 + seconds)), one less than gaps of that length have.

    By comparison: a logarithm differs in its last digit between devices, and near a bound that is another bucket.
    """
    return tf.raw_ops.Bucketize(input=ages, boundaries=[(2**k - 1) / 3600 for k in range(1, GAP_BUCKETS)])


def embedding(rows: int, width: int, stddev: float = SPREAD) -> keras.layers.Embedding:
    """A table of small random vectors."""
    return keras.layers.Embedding(rows, width, embeddings_initializer=keras.initializers.RandomNormal(stddev=stddev))
