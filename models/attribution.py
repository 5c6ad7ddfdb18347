"""Which past events, context fields and item attributes moved a prediction, as a part of the served graph.

Shapley values (Shapley 1953; for models: Lundberg and Lee 2017): every event, field and attribute is a player, a
coalition is a question in which only some of them are known, and its worth is the log-odds the model then gives. Only a
network's ``item_vectors``, ``encode`` and ``score`` are asked, so it holds for every kind of network.
docs/decisions/0006 compares the alternatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from models.contract import FIRST, GAP_BUCKETS, PAD, POPULARITY, UNKNOWN, Contract, Field
from models.matches import pack_tail, unpack_tail
from models.network import Network, mean_vector
from models.past import Candidates, Catalogue, Events, Past

Tensor = Any

#: Random orders in which players join, each also walked backwards; see :func:`walks`.
ORDERS = 2


class Question(NamedTuple):
    """One user and C candidates: events [n], in which every slot is one; their number (the line of the calibration,
    whatever is left out), context ids [F], hours since the newest event, and item ids [C]."""

    history: Events
    length: Tensor
    context: Tensor
    since: Tensor
    candidates: Tensor


class Attribution:
    """Attributes the log-odds of a network's targets.

    Args:
        contract: of what is served, that is with the state's shape.
        catalogue: the tables in which candidates and events are looked up; they may grow.
        link: from logits [1, C, T] and lengths [1] to log-odds as they are served: the calibration.
        orders: see :data:`ORDERS`.
    """

    def __init__(
        self,
        network: Network,
        contract: Contract,
        catalogue: Catalogue,
        link: Callable[[Tensor, Tensor], Tensor],
        orders: int = ORDERS,
    ) -> None:
        self.network, self.contract, self.catalogue = network, contract, catalogue
        self.link, self.orders = link, orders
        self.fields, self.attributes = len(contract.fields), len(contract.attributes)
        self.usual = tf.reduce_mean(network.numbers[FIRST:, POPULARITY])
        self.scenes = tf.constant([[instead(f, (i + 0.5) / orders) for f in contract.fields] for i in range(orders)])

    def batch(
        self, histories: Events, lengths: Tensor, context: Tensor, since: Tensor, candidates: Tensor
    ) -> dict[str, Tensor]:
        """Histories [B, L], lengths [B], context [B, F], since [B] and candidates [B, C], one user at a time.

        Returns ``events`` [B, C, T, L], ``context`` [B, C, T, F], ``attributes`` [B, C, T, A] and ``base`` [B, C, T],
        the log-odds where nothing is known. They add up to the log-odds that ``score`` gives.
        """
        length = self.contract.history_length

        def one(row: tuple[Events, Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, ...]:
            n = tf.maximum(row[1], 1)  # without any event, one empty slot
            gains, base = self(Question(Events(*(column[-n:] for column in row[0])), *row[1:]))
            sizes = tf.stack([n, self.fields, self.attributes])
            events, fields, attributes = tf.split(tf.transpose(gains, [1, 2, 0]), sizes, axis=-1)
            # Not even by a rounding: equal rows of a batch may differ in their last digits.
            events = tf.where(row[0].items[-n:] != PAD, events, 0.0)
            return tf.pad(events, [[0, 0], [0, 0], [length - n, 0]]), fields, attributes, base

        rows, outputs = (histories, lengths, context, since, candidates), (tf.float32,) * 4
        parts = tf.map_fn(one, rows, fn_output_signature=outputs, parallel_iterations=1)
        sizes = (length, self.fields, self.attributes)
        names = ("events", "context", "attributes")
        moved = {k: tf.ensure_shape(p, [None, None, None, n]) for k, p, n in zip(names, parts[:3], sizes, strict=True)}
        return moved | {"base": parts[3]}

    def __call__(self, question: Question) -> tuple[Tensor, Tensor]:
        """Contributions [P, C, T] of P = n + F + A players (events, context fields, attributes), and base [C, T]."""
        count = tf.shape(question.history.items)[0] + self.fields + self.attributes
        order = walks(count, self.orders)  # [W, P]
        known, scene, which = coalitions(order, self.orders)  # [S, P], [S], [W, P + 1]
        worth = tf.gather(self.worth(question, known, scene), which)  # [W, P + 1, C, T]
        gains = worth[:, 1:] - worth[:, :-1]
        place = tf.argsort(order, axis=1)  # when each player joined
        return tf.reduce_mean(tf.gather(gains, place, batch_dims=1), axis=0), tf.reduce_mean(worth[:, 0], axis=0)

    def worth(self, question: Question, known: Tensor, scene: Tensor) -> Tensor:
        """Log-odds [S, C, T] where of all players only those of ``known`` bool [S, P] are known.

        ``scene`` [S] says which of the moments of :func:`instead` stands in for unknown context.
        """
        n = tf.shape(question.history.items)[0]
        events, fields, attributes = tf.split(known, tf.stack([n, self.fields, self.attributes]), axis=1)
        state, lengths = self.encode(question.history, events & (question.history.items != PAD))
        rows, copies = tf.shape(known)[0], tf.shape(question.candidates)[0]
        candidates, table, state = self.describe(question, tf.ensure_shape(attributes, [None, self.attributes]), state)
        said = fields | (question.context == PAD)  # a field that says nothing moves nothing
        context = tf.repeat(tf.where(said, question.context, tf.gather(self.scenes, scene)), copies, axis=0)
        context = tf.ensure_shape(context, [None, self.fields])
        since = tf.fill([rows * copies], question.since)
        past = Past.whole(state, tf.repeat(lengths, copies), since)
        logits = self.network.score(past, candidates._replace(context=context[:, None]), table)
        targets = len(self.contract.targets)
        logits = tf.reshape(logits[..., :targets], [1, rows * copies, targets])
        return tf.reshape(self.link(logits, question.length[None]), [rows, copies, targets])

    def encode(self, history: Events, known: Tensor) -> tuple[Tensor, Tensor]:
        """States [S, n, width] and lengths [S] of histories that lack all events but those of ``known`` bool [S, n]."""
        order = tf.argsort(tf.cast(known, tf.int32), axis=1, stable=True)  # what is left keeps its order, to the right
        present = tf.gather(known, order, batch_dims=1)

        def left(column: Tensor) -> Tensor:
            """The rows [S, n, ...] of the events that are left, of those of all [n, ...]; zeros below."""
            real = tf.reshape(present, tf.concat([tf.shape(present), tf.ones([len(column.shape) - 1], tf.int32)], 0))
            return tf.where(real, tf.gather(column, order), tf.zeros([], column.dtype))

        events = Events(*map(left, history))._replace(gaps=regap(history.gaps, order, present))
        vectors = tf.gather(self.catalogue.vectors, events.items)
        shown = left(mean_vector(tf.gather(self.catalogue.vectors, history.exposed), history.exposed))
        state = self.network.encode(events, vectors, shown)
        state *= tf.cast(present, tf.float32)[..., None]
        state = tf.cast(tf.cast(state, self.contract.state_dtype), tf.float32)  # as exact as a served state
        return state, tf.reduce_sum(tf.cast(known, tf.int32), axis=1)

    def describe(self, question: Question, known: Tensor, state: Tensor) -> tuple[Candidates, Tensor, Tensor]:
        """Candidates [S * C, 1] as far as ``known`` bool [S, A] tells what they are, without context.

        Every row asks about a stranger: an id that nobody has yet, with a line of its own below the category table.
        Where the candidate's own id is known, the events on it are renamed to the stranger's; so the network finds
        them again, and category by category sees only what is known. Returns the candidates, the longer table, and the
        states [S * C, n, width] with such names.
        """
        own, levels = question.candidates, len(self.contract.category_sizes)
        rows, copies = tf.shape(known)[0], tf.shape(own)[0]
        known = known[:, None, :, None]  # [S, 1, A, 1]
        categories = tf.where(known[:, :, 1 : 1 + levels, 0], tf.gather(self.catalogue.categories, own), PAD)
        numbers = tf.gather(self.catalogue.numbers, own)
        price = tf.where(known[:, :, -2], numbers[:, :1], 0.0)  # 0 is the mean; whether there is one, stays
        popularity = tf.where(known[:, :, -1], numbers[:, POPULARITY:], self.usual)
        priced = tf.broadcast_to(numbers[:, 1:POPULARITY], tf.shape(price))
        numbers = tf.concat([price, priced, popularity], axis=-1)  # [S, C, 3]
        learned = tf.where(own < self.contract.items, own, UNKNOWN)
        learned = tf.where(known[:, :, 0, 0], learned, UNKNOWN)  # [S, C]
        vectors = self.network.item_vectors(learned, categories, numbers)
        table = tf.concat([self.catalogue.categories, tf.reshape(categories, [rows * copies, levels])], axis=0)
        strangers = tf.shape(self.catalogue.categories)[0] + tf.range(rows * copies)  # [S * C]
        state = tf.repeat(state, copies, axis=0)
        items, types, ages, exposures = unpack_tail(state)
        same = (items == tf.tile(own, [rows])[:, None]) & tf.repeat(known[:, 0, 0], copies, axis=0)
        tail = pack_tail(tf.where(same, strangers[:, None], items), types, ages, exposures)
        state = tf.concat([state[..., : -tail.shape[-1]], tail], axis=-1)
        vectors, numbers = (tf.reshape(part, [-1, 1, part.shape[-1]]) for part in (vectors, numbers))
        candidates = Candidates(strangers[:, None], vectors, numbers, None, tf.reshape(learned, [-1, 1]))
        return candidates, table, state


def instead(field: Field, share: float) -> int:
    """The value that stands in for an unknown field: the one at ``share`` of all its values.

    No user came at no hour, so a network has never seen PAD there and would answer at random. Two quartiles in turn are
    what the average moment is like, and an attribution says how this one differs (reference values: Lundberg and Lee
    2017). A user without a past has no time since then; that PAD is known.
    """
    if field.name == "since_last" or field.size <= FIRST:
        return PAD
    return FIRST + int(share * (field.size - FIRST))


def walks(players: Tensor, orders: int) -> Tensor:
    """Orders in which players join, int32 [2 * orders, players]: random ones, always the same, and their reverses.

    A walk's gains add up to the whole, whatever the order. A walk and its reverse together give the exact Shapley value
    of every game in which players interact in pairs; more orders are for higher interactions.
    """
    draws = [tf.random.stateless_uniform([players], seed=[7, number]) for number in range(orders)]
    forward = tf.stack([tf.argsort(draw) for draw in draws])
    return tf.concat([forward, tf.reverse(forward, [1])], axis=0)


def coalitions(order: Tensor, scenes: int) -> tuple[Tensor, Tensor, Tensor]:
    """What walks [W, P] pass through: coalitions bool [S, P], their scenes [S], and the place of each step [W, P + 1].

    A walk keeps to the scene w modulo ``scenes``. Everybody comes first, for all walks, then nobody in each scene, then
    what lies between: S = 1 + scenes + W * (P - 1).
    """
    walk_count, players = tf.shape(order)[0], tf.shape(order)[1]
    joined = tf.argsort(order, axis=1)  # [W, P]
    between = joined[:, None, :] < tf.range(1, players)[:, None]  # [W, P - 1, P]
    ends = tf.tile(tf.range(1 + scenes)[:, None] < 1, [1, players])
    scene = tf.range(walk_count) % scenes  # [W]
    inner = 1 + scenes + tf.reshape(tf.range(walk_count * (players - 1)), [walk_count, players - 1])
    which = tf.concat([1 + scene[:, None], inner, tf.zeros([walk_count, 1], tf.int32)], axis=1)
    everywhere = tf.concat([[0], tf.range(scenes), tf.repeat(scene, players - 1)], axis=0)
    return tf.concat([ends, tf.reshape(between, [-1, players])], axis=0), everywhere, which


def regap(gaps: Tensor, order: Tensor, present: Tensor) -> Tensor:
    """Gap buckets [S, n] between the events that are left, given all buckets [n] and who stands where.

    A bucket stands for the middle of its times, so gaps that lie between two neighbours come back as they were, and a
    sum of gaps is at most a bucket off.
    """
    middle = np.append(0.0, 1.5 * 2.0 ** np.arange(GAP_BUCKETS - 1) - 1.0)
    at = tf.gather(tf.cumsum(tf.gather(tf.constant(middle, tf.float64), gaps)), order)
    passed = at[:, 1:] - at[:, :-1]  # [S, n - 1]
    edges = tf.constant(2.0 ** np.arange(GAP_BUCKETS - 1), tf.float64)
    bucket = tf.reduce_sum(tf.cast(1.0 + passed[..., None] >= edges, tf.int32), axis=-1)
    bucket = tf.where(present[:, :-1], bucket, 0)  # the oldest one left: what came before it is out of sight
    return tf.pad(bucket, [[0, 0], [1, 0]])
