"""What a network is asked about: the past that a decision sees, the candidates, and the catalogue they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import tensorflow as tf

from models.contract import STATE_TAIL
from models.matches import unpack_tail

Tensor = Any


class Events(NamedTuple):
    """Histories as ``encode`` takes them, [B, L] each, or one of them, [n]; see encode.encode_history.

    ``exposed`` has one more axis, of the newest E items shown before each event; E is 0 where the model knows of none.
    """

    items: Tensor
    types: Tensor
    gaps: Tensor
    values: Tensor
    ages: Tensor
    exposed: Tensor
    exposures: Tensor

    @classmethod
    def of(cls, columns: Mapping[str, Tensor]) -> Events:
        """From columns by name, among others; ``exposed`` and ``exposures`` may be absent."""
        none = tf.zeros_like(columns["items"])
        unknown = {"exposed": tf.zeros([*tf.unstack(tf.shape(none)), 0], tf.int32), "exposures": none}
        return cls(**{name: columns[name] if name in columns else unknown[name] for name in cls._fields})


@dataclass(frozen=True, slots=True)
class Past:
    """Encoded histories, and how much of them each decision sees; D is 1 where all decisions see the same.

    Attributes:
        state: float32 [B, L, width]; ``valid`` marks the slots that hold an event, bool [B, L].
        prefix: the last slot each decision sees, int32 [B, D]; -1 sees nothing.
        since: hours from the history's newest event to each decision, [B, D]; negative where that lies before it.
    """

    state: Tensor
    valid: Tensor
    prefix: Tensor
    since: Tensor

    @classmethod
    def whole(cls, state: Tensor, lengths: Tensor, since: Tensor) -> Past:
        """Serving's case: one moment (D = 1), ``since`` [B] hours after the newest of ``lengths`` [B] events.

        It holds for any number of candidates.
        """
        length = tf.shape(state)[1]
        valid = tf.range(length) >= length - lengths[:, None]
        prefix = tf.fill([tf.shape(state)[0], 1], length - 1)
        return cls(tf.cast(state, tf.float32), valid, prefix, since[:, None])

    @property
    def rows(self) -> Tensor:
        """The encoder's output alone [B, L, W]."""
        return self.state[..., :-STATE_TAIL]

    @property
    def events(self) -> tuple[Tensor, Tensor]:
        """Item ids and type ids, int32 [B, L]."""
        return unpack_tail(self.state)[:2]

    @property
    def exposures(self) -> Tensor:
        """The exposures of each event (contract.EXPOSURES), int32 [B, L]."""
        return unpack_tail(self.state)[3]

    @property
    def ages(self) -> Tensor:
        """Hours from each event to each decision [B, D, L]; 0 for what it does not see yet."""
        return tf.maximum(self.since[..., None] + unpack_tail(self.state)[2][:, None], 0.0)

    @property
    def visible(self) -> Tensor:
        """Which events each decision sees, bool [B, D, L]."""
        return (tf.range(tf.shape(self.valid)[1]) <= self.prefix[..., None]) & self.valid[:, None, :]

    @property
    def distance(self) -> Tensor:
        """How many slots each event lies before the decision, int32 [B, D, L]; negative in its future."""
        return self.prefix[..., None] - tf.range(tf.shape(self.valid)[1])

    @property
    def newest(self) -> Tensor:
        """The row of the newest event each decision sees [B, D, W]; zeros where it sees none."""
        known = tf.reduce_any(self.visible, axis=-1, keepdims=True)  # [B, D, 1]
        return tf.gather(self.rows, tf.maximum(self.prefix, 0), batch_dims=1) * tf.cast(known, self.state.dtype)


class Candidates(NamedTuple):
    """What decisions are about: item ids [B, D], their vectors and numbers, and the context ids [B, D or 1, F].

    ``learned`` [B, D] are the ids under which a network may have learned of them, where these are not ``items``.
    """

    items: Tensor
    vectors: Tensor
    numbers: Tensor
    context: Tensor
    learned: Tensor | None = None


class Catalogue(NamedTuple):
    """Tables with a row for each item id: vectors [V, width], category ids [V, levels], numbers [V, 3]."""

    vectors: Tensor
    categories: Tensor
    numbers: Tensor
